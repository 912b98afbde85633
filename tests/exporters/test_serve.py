"""A server answers as OpenAI's, TEI's and Hugging Face's clients expect it, and refuses in one line."""

import base64
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from questions import questions
from served import Server, handed_out_as, prefixed, serving

from exporters.reader import OnnxReader
from exporters.session import OnnxEncoder

pytestmark = pytest.mark.packages
for _name in ("starlette", "uvicorn", "orjson", "prometheus_client"):
    pytest.importorskip(_name, reason=f"{_name} is not installed: make test-serve")

TEXTS = sentences(40)
PROMPTS = {"query": "red : ", "document": "blue : ", "code": "two : "}


@pytest.fixture(scope="module")
def folders(sealed: Path, servable: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("served")
    return {
        "tiny": servable["fp32"],
        "int8": servable["int8"],
        "prefixed": prefixed(sealed / "fp32", home / "prefixed", 8, 4),
        "prompted": handed_out_as(sealed / "fp32", home / "prompted", "prompted", prompts=PROMPTS),
        "reader": servable["reader"],
    }


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    with serving(*(f"{name}={folder}" for name, folder in folders.items()), "--threads", 1) as running:
        yield running


@pytest.fixture(scope="module")
def small(folders: dict[str, Path]) -> Iterator[Server]:
    """Return a server that takes little, and asks for a key."""
    limits = {"body-bytes": 4000, "request-texts": 5, "request-tokens": 100, "read-seconds": 1, "waiting-texts": 5}
    options = [word for name, value in limits.items() for word in (f"--{name}", value)]
    with serving(folders["tiny"], "--threads", 1, *options, COMPRESSOR_API_KEY="sesame") as running:
        yield running


def embedded(server: Server, **fields: Any) -> Any:
    reply = server.ask("/v1/embeddings", {"model": "tiny", **fields})
    assert reply.status == 200, reply.content
    return reply.json


def vectors(answer: Any) -> np.ndarray:
    assert [row["index"] for row in answer["data"]] == list(range(len(answer["data"])))
    return np.array([row["embedding"] for row in answer["data"]], np.float32)


def test_vectors_are_those_of_encode(server: Server, folders: dict[str, Path]) -> None:
    answer = embedded(server, input=TEXTS)
    encoder = OnnxEncoder(folders["tiny"], threads=1)
    np.testing.assert_allclose(vectors(answer), encoder.encode(TEXTS), atol=1e-5)
    assert np.abs(np.diff(vectors(answer), axis=0)).max(axis=1).min() > 1e-3  # a row of another text would show
    tokens = sum(map(len, encoder.tokenize(TEXTS)))
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (answer["object"], answer["model"]) == ("list", "tiny")
    assert {row["object"] for row in answer["data"]} == {"embedding"}


def test_one_text_and_token_ids_give_the_same_vector(server: Server, folders: dict[str, Path]) -> None:
    encoder = OnnxEncoder(folders["tiny"], threads=1)
    ids = encoder.tokenize(TEXTS[:2])
    alone, several = vectors(embedded(server, input=TEXTS[0])), vectors(embedded(server, input=ids))
    np.testing.assert_allclose(several, encoder.encode(TEXTS[:2]), atol=1e-5)
    np.testing.assert_allclose(alone, several[:1], atol=1e-6)
    np.testing.assert_allclose(vectors(embedded(server, input=ids[1])), several[1:], atol=1e-6)


def test_base64_is_the_same_float32(server: Server) -> None:
    plain = vectors(embedded(server, input=TEXTS[:3], encoding_format="float"))
    coded = embedded(server, input=TEXTS[:3], encoding_format="base64")["data"]
    decoded = np.stack([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in coded])
    np.testing.assert_allclose(decoded, plain, atol=1e-7)


def test_dimensions_are_those_that_the_artifact_states(server: Server) -> None:
    whole = vectors(embedded(server, model="prefixed", input=TEXTS[:3]))
    cut = vectors(embedded(server, model="prefixed", input=TEXTS[:3], dimensions=8))
    assert whole.shape == (3, 16)
    np.testing.assert_allclose(cut, whole[:, :8] / np.linalg.norm(whole[:, :8], axis=1)[:, None], atol=1e-6)
    np.testing.assert_allclose(vectors(embedded(server, input=TEXTS[:3], dimensions=16)), whole, atol=1e-6)
    refused = server.ask("/v1/embeddings", {"model": "prefixed", "input": "a", "dimensions": 5})
    assert (refused.status, refused.message) == (400, "dimensions = 5: must be 16 or 8 or 4")
    refused = server.ask("/v1/embeddings", {"model": "tiny", "input": "a", "dimensions": 8})
    assert refused.message == "dimensions = 8: must be 16: the vectors of tiny cannot be cut"


def test_input_type_puts_the_artifacts_prompt_before(server: Server, folders: dict[str, Path]) -> None:
    encoder = OnnxEncoder(folders["prompted"], threads=1)
    for kind, expected in {"query": encoder.encode_query, "document": encoder.encode_document}.items():
        found = vectors(embedded(server, model="prompted", input=TEXTS[:4], input_type=kind))
        np.testing.assert_allclose(found, expected(TEXTS[:4]), atol=1e-5)
        assert np.abs(found - encoder.encode(TEXTS[:4])).max() > 1e-3
    found = np.array(server.ask("/embed", {"inputs": TEXTS[:2], "prompt_name": "code", "model": "prompted"}).json)
    np.testing.assert_allclose(found, encoder.encode(TEXTS[:2], prompt_name="code"), atol=1e-5)
    refused = server.ask("/v1/embeddings", {"model": "prompted", "input": [5], "input_type": "query"})
    assert refused.message.startswith("input_type: no prompt can be put before token ids")
    refused = server.ask("/embed", {"model": "prompted", "inputs": "a", "prompt_name": "nothing"})
    assert refused.message.startswith("prompt_name: prompt_name = 'nothing': must be")


def test_embed_answers_as_tei_does(folders: dict[str, Path], server: Server) -> None:
    encoder = OnnxEncoder(folders["tiny"], threads=1)
    found = np.array(server.ask("/embed", {"model": "tiny", "inputs": TEXTS[:3], "normalize": True}).json, np.float32)
    np.testing.assert_allclose(found, encoder.encode(TEXTS[:3]), atol=1e-5)
    assert np.array(server.ask("/embed", {"model": "tiny", "inputs": "one"}).json).shape == (1, 16)
    long = {"model": "tiny", "inputs": ["a", "the " * 62, "the " * 63]}
    assert server.ask("/embed", long | {"truncate": True, "truncation_direction": "Right"}).status == 200
    refused = server.ask("/embed", long | {"truncate": False})
    assert refused.json == {"error": "inputs[2]: 65 tokens; the model reads at most 64", "error_type": "Validation"}
    assert refused.status == 413
    assert server.ask("/embed", {"model": "tiny", "inputs": "a", "normalize": False}).message.startswith(
        "normalize = Fa"
    )
    assert server.ask("/embed", {"model": "tiny", "inputs": "a", "truncation_direction": "Left"}).status == 400


def test_answers_are_those_of_the_reader(server: Server, folders: dict[str, Path]) -> None:
    asked = questions(4)
    pairs = [{"question": one.text, "context": one.context} for one in asked]
    predictions = OnnxReader(folders["reader"], threads=1).read(asked)
    reply = server.ask("/answer", {"inputs": pairs})
    assert reply.status == 200, reply.content
    for found, prediction in zip(reply.json, predictions, strict=True):
        best = prediction.spans[0]
        assert found["answer"] == best.text
        assert (found["start"], found["end"]) == (best.start, best.end)
        assert found["score"] == pytest.approx(best.probability, abs=1e-5)
    alone = server.ask("/answer", {"inputs": pairs[0], "model": "reader"}).json
    assert alone["answer"] == predictions[0].spans[0].text
    several = server.ask("/answer", {"inputs": pairs[0], "parameters": {"top_k": 3}}).json
    assert [one["answer"] for one in several] == [span.text for span in predictions[0].spans[:3]]
    for body, line in {
        "inputs = None": {},
        "inputs[0] = an object": {"inputs": [{"question": "a"}]},
        "top_k = 0": {"inputs": pairs[0], "parameters": {"top_k": 0}},
        "top_k = 1000": {"inputs": pairs[0], "parameters": {"top_k": 1000}},
    }.items():
        refused = server.ask("/answer", line)
        assert (refused.status, refused.message.startswith(body)) == (400, True), refused.message


def test_models_are_listed_and_found(server: Server) -> None:
    listed = server.ask("/v1/models").json
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == ["tiny", "int8", "prefixed", "prompted", "reader"]
    one = server.ask("/v1/models/prefixed").json
    assert (one["object"], one["dimensions"], one["max_tokens"]) == ("model", [16, 8, 4], 64)
    assert server.ask("/v1/models/nothing").status == 404
    unknown = server.ask("/v1/embeddings", {"model": "gpt", "input": "a"})
    assert unknown.status == 404
    assert unknown.message == "model = 'gpt': not served here; served are tiny, int8, prefixed, prompted, reader"
    unnamed = server.ask("/v1/embeddings", {"input": "a"})
    assert unnamed.message == "model: missing; served are tiny, int8, prefixed, prompted"
    wrong = server.ask("/v1/embeddings", {"model": "reader", "input": "a"})
    assert (wrong.status, wrong.message) == (400, "model = 'reader': answers questions; ask it at /answer")
    assert server.ask("/answer", {"model": "tiny", "inputs": {"question": "a", "context": "b"}}).status == 400


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/embeddings", b"{", {}, 400),
        ("/v1/embeddings", b"\xff", {}, 400),
        ("/v1/embeddings", b"[" * 100_000, {}, 400),
        ("/v1/embeddings", b'{"model": "tiny", "input": "\\ud800"}', {}, 400),
        ("/v1/embeddings", b"{}", {"Content_Type": "text/plain"}, 415),
        ("/v1/embeddings", {"model": "tiny", "input": "a", "imput_type": "query"}, {}, 400),
        ("/v1/embeddings", {"model": "tiny", "input": "a", "encoding_format": "hex"}, {}, 400),
        ("/v1/embeddings", {"model": "tiny", "input": [10**6]}, {}, 400),
        ("/v1/embeddings", None, {}, 405),
        ("/nothing", None, {}, 404),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    server: Server, path: str, body: Any, headers: dict[str, str], status: int
) -> None:
    reply = server.ask(path, body, **headers)
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert reply.message
    assert "\n" not in reply.message
    assert server.process.poll() is None


def test_health_and_figures(server: Server) -> None:
    embedded(server, input=["a", "b"])
    assert (server.ask("/health").json, server.ask("/ready").json) == ({"status": "ok"}, {"status": "ready"})
    reply = server.ask("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=")
    lines = dict(line.rsplit(" ", 1) for line in reply.content.decode().splitlines() if not line.startswith("#"))
    assert float(lines['compressor_requests_total{path="/v1/embeddings",status="200"}']) >= 1
    assert float(lines['compressor_texts_total{model="tiny"}']) >= 2
    assert float(lines['compressor_tokens_total{model="tiny"}']) >= 6
    assert float(lines["compressor_open_requests"]) == 0
    assert float(lines["process_resident_memory_bytes"]) > 1e6


def test_more_than_is_taken_is_refused(small: Server) -> None:
    key = {"Authorization": "Bearer sesame"}
    assert small.ask("/v1/embeddings", {"input": TEXTS[:5]}, **key).status == 200
    for fields, line in (
        ({"input": ["a"] * 6}, "input: 6 texts; a request has at most 5"),
        ({"input": ["the " * 60] * 2}, "124 tokens; a request has at most 100: send fewer texts at once"),
        ({"input": "a" * 4001}, "body: more than 4000 bytes"),
    ):
        reply = small.ask("/v1/embeddings", fields, **key)
        assert (reply.status, reply.message) == (413, line)


def test_who_has_not_the_key_is_refused(small: Server) -> None:
    for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": "Bearer sesam"}, {"Authorization": "sesame"}):
        for path, body in (("/v1/embeddings", {"input": "a"}), ("/v1/models", None), ("/metrics", None)):
            reply = small.ask(path, body, **headers)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert small.ask("/embed", {"inputs": "a"}).json["error_type"] == "Unauthorized"
    assert small.ask("/health").status == small.ask("/ready").status == 200
    assert small.ask("/v1/models", Authorization="Bearer sesame").status == 200


def test_a_body_that_does_not_come_is_not_waited_for(small: Server) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=60) as connection:
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer sesame\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
        reply = connection.makefile("rb").read()
    assert reply.startswith(b"HTTP/1.1 408 ")


def test_what_waits_too_long_is_sent_away_with_when_to_come_again(folders: dict[str, Path]) -> None:
    options = ("--threads", 1, "--batch-size", 1, "--request-texts", 2000, "--waiting-texts", 2000)
    with serving(folders["tiny"], *options) as server, ThreadPoolExecutor(16) as pool:
        many = {"input": ["the cat sees the dog and the bird runs over the old bridge " * 8] * 2000}
        replies = list(pool.map(lambda _: server.ask("/v1/embeddings", many), range(16)))
        statuses = [reply.status for reply in replies]
        assert set(statuses) == {200, 503}
        for reply in replies:
            if reply.status == 503:
                assert int(reply.headers["retry-after"]) >= 1
                assert reply.message.endswith("texts wait already; try again later")
        assert server.end().endswith(f"{len(statuses)} taken, {len(statuses)} answered, 0 left by their clients")


def test_requests_beyond_the_limit_are_sent_away_unread(folders: dict[str, Path]) -> None:
    with serving(folders["tiny"], "--threads", 1, "--waiting-requests", 1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as slow:
            head = "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            wait_until(lambda: b"compressor_open_requests 1.0" in server.ask("/metrics").content)
            reply = server.ask("/v1/embeddings", {"input": "a"})
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert server.ask("/ready").status == 200
        wait_until(lambda: b"compressor_open_requests 0.0" in server.ask("/metrics").content)
        assert server.ask("/v1/embeddings", {"input": "a"}).status == 200


def test_what_a_client_left_is_not_computed(folders: dict[str, Path]) -> None:
    with serving(folders["tiny"], "--threads", 1, "--batch-size", 1) as server:
        body = b'{"input": [%s]}' % b",".join([b'"the cat sees the dog"'] * 2000)
        head = (
            b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            connection.sendall(head % len(body) + body)
            wait_until(lambda: b"compressor_open_requests 1.0" in server.ask("/metrics").content)
        wait_until(lambda: b"compressor_open_requests 0.0" in server.ask("/metrics").content)
        assert b'compressor_waiting_texts{model="tiny"} 0.0' in server.ask("/metrics").content
        assert server.end().endswith("1 taken, 0 answered, 1 left by their clients")


def wait_until(holds: Any) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_says_so_answers_and_ends_well(folders: dict[str, Path], number: signal.Signals) -> None:
    with serving(folders["tiny"], "--threads", 1, "--drain-seconds", 1) as server:
        found = dict[str, Any]()

        def ask() -> None:
            wait_until(lambda: server.ask("/ready").status == 503)
            found["ready"], found["reply"] = server.ask("/ready"), server.ask("/v1/embeddings", {"input": "a"})

        asking = threading.Thread(target=ask)
        asking.start()
        line = server.end(number)
        asking.join()
        assert (found["ready"].json, found["reply"].status) == ({"status": "ending"}, 200)
        assert found["reply"].headers["connection"] == "close"
        assert line == "ended: of the requests 1 taken, 1 answered, 0 left by their clients"
        assert server.process.returncode == 0


def test_what_verify_refuses_is_not_served(folders: dict[str, Path], tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(folders["tiny"], tmp_path / "damaged"))
    graph = damaged / "onnx" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with pytest.raises(AssertionError, match=r"ended with 1: error: .*model\.onnx"), serving(damaged):
        pass
    with pytest.raises(AssertionError, match=r"ended with 1: error: waiting_texts = 1"):  # noqa: SIM117
        with serving(folders["tiny"], "--waiting-texts", 1):
            pass


def test_it_starts_without_torch(folders: dict[str, Path]) -> None:
    with serving(folders["tiny"], "--threads", 1) as server:
        assert server.ask("/v1/embeddings", {"input": "a"}).status == 200
        maps = Path(f"/proc/{server.process.pid}/maps")
        if not maps.is_file():
            pytest.skip("no /proc here")
        loaded = maps.read_text()
        assert "onnxruntime" in loaded
        assert "libtorch" not in loaded
