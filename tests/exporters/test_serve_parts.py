"""What a server is made of, without one: fields, names, settings, vectors that may be cut, results of a request."""

import asyncio
import re
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from served import prefixed

from compressor.core.errors import ArtifactError, BusyError, CompressorError, RecipeError
from exporters.runtime.prefixes import shortened, vector_lengths
from exporters.server.fields import Fields, check_ids
from exporters.server.refused import Refused
from exporters.server.results import Gone, results
from exporters.server.run import bound, named
from exporters.server.settings import KEY, Serving, key_in_environment
from exporters.serving import Batcher
from exporters.session import OnnxEncoder


def refused(call: Any, *arguments: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value


@pytest.mark.parametrize(
    ("value", "items"),
    [("a", ["a"]), ("", [""]), (["a", "b"], ["a", "b"]), ([1, 2], [[1, 2]]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_one_or_several_texts_or_token_ids_are_taken(value: Any, items: Any) -> None:
    fields = Fields({"input": value})
    assert fields.items("input", 2) == items
    fields.end()


@pytest.mark.parametrize(
    ("value", "status", "line"),
    [
        (None, 400, r"^input = None: must be a text, a list of texts, token ids"),
        ([], 400, r"^input = a list of 0: must be"),
        ({"a": 1}, 400, r"^input = an object: must be"),
        (True, 400, r"^input = True: must be"),
        (["a", 1], 400, r"^input: text 1: int was given where a text belongs$"),
        (["a", "\ud800"], 400, r"^input: text 1: holds half a character"),
        ([1, "a"], 400, r"^input\[0\] = a list of 2: must be token ids"),
        ([[1], []], 400, r"^input\[1\] = a list of 0: must be token ids"),
        ([[1], [True]], 400, r"^input\[1\] = a list of 1: must be token ids"),
        ([[1], "a"], 400, r"^input\[1\] = 'a': must be token ids"),
        ([1.5], 400, r"^input\[0\] = 1.5: must be token ids"),
        (["a", "b", "c"], 413, r"^input: 3 texts; a request has at most 2$"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(value: Any, status: int, line: str) -> None:
    found = refused(Fields({"input": value}).items, "input", 2)
    assert found.status == status
    assert re.search(line, found.message), found.message


def test_fields_are_checked_one_by_one() -> None:
    fields = Fields({"a": "x", "b": 3, "c": None, "d": False, "e": "?"})
    assert (fields.choice("a", ("x", "y")), fields.whole("b"), fields.text("c"), fields.flag("d")) == (
        "x",
        3,
        None,
        False,
    )
    assert refused(fields.end).message == "e: no such field"
    assert refused(Fields, ["a"]).message == "body: must be a JSON object"
    for value in (0, -1, True, 1.0, "1"):
        assert refused(Fields({"n": value}).whole, "n").message.endswith("must be a whole number from 1")
    for value in ("z", 1, ["x"]):
        assert refused(Fields({"a": value}).choice, "a", ("x", "y")).message.endswith("must be 'x' or 'y'")
    assert refused(Fields({"d": 0}).flag, "d").message == "d = 0: must be true or false"
    assert refused(Fields({"c": 1}).text, "c").message == "c = 1: must be a string"


def test_token_ids_are_those_of_the_artifact() -> None:
    check_ids("input", [[0, 9], [9]], 10, 2)
    assert refused(check_ids, "input", [[0], [1, 10]], 10, 2).message.startswith(
        "input[1]: token id 10: the artifact's"
    )
    assert refused(check_ids, "input", [[-1]], 10, 2).code == "invalid_token_id"
    assert refused(check_ids, "input", [[1, 2, 3]], 10, 2).message == "input[0]: 3 tokens; the model reads at most 2"
    assert len(refused(check_ids, "input", [[10**200]], 10, 2).message) < 250


def test_refusals_have_the_form_of_each_kind_of_client() -> None:
    found = Refused(413, "too much", "input", "content_too_large")
    error = {"message": "too much", "type": "invalid_request_error", "param": "input", "code": "content_too_large"}
    assert found.as_dict() == {"error": error}
    assert found.as_tei() == {"error": "too much", "error_type": "Validation"}
    assert Refused(503, "later").as_tei()["error_type"] == "Overloaded"
    assert Refused(500, "no").as_dict()["error"]["type"] == "server_error"


def test_artifacts_are_called_by_their_recipe_or_as_they_are_told(sealed: Path, reader: Path, tmp_path: Path) -> None:
    assert named([str(sealed / "fp32"), f"org/other:1={reader / 'fp32'}"]) == {
        "tiny": sealed / "fp32",
        "org/other:1": reader / "fp32",
    }
    with pytest.raises(RecipeError, match=r"int8: is called tiny, as .*fp32 is; give NAME=.*int8$"):
        named([str(sealed / "fp32"), str(sealed / "int8")])
    with pytest.raises(RecipeError, match="must begin with a letter or digit"):
        named([f"a name={sealed / 'fp32'}"])
    with pytest.raises(ArtifactError):
        named([str(tmp_path)])
    strange = tmp_path / "a=b"
    prefixed(sealed / "fp32", strange, 4)
    assert named([str(strange)]) == {"prefixed": strange}


def test_settings_and_key_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Serving().host == "127.0.0.1"
    Serving().check()
    with pytest.raises(RecipeError, match=r"^waiting_texts = 3: must be at least request_texts = 4"):
        Serving(waiting_texts=3, request_texts=4).check()
    monkeypatch.delenv(KEY, raising=False)
    assert key_in_environment() is None
    monkeypatch.setenv(KEY, "secret")
    assert key_in_environment() == "secret"
    for wrong in ("", " ", "a\n", "ä"):
        monkeypatch.setenv(KEY, wrong)
        with pytest.raises(RecipeError, match=rf"^environment variable {KEY}: must be printable ASCII"):
            key_in_environment()


def test_an_address_that_is_taken_is_refused_in_one_line() -> None:
    with bound("127.0.0.1", 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(RecipeError, match=rf"^host = 127.0.0.1, port = {port}: cannot be listened on \(Address"):
            bound("127.0.0.1", port)
    with pytest.raises(RecipeError, match=r"^host = no such host, port = 1: cannot be listened on"):
        bound("no such host", 1)
    assert isinstance(first, socket.socket)


def test_vectors_are_cut_where_the_recipe_says_so_alone(sealed: Path, tmp_path: Path) -> None:
    made = prefixed(sealed / "fp32", tmp_path / "made", 4, 8, 16, 999)
    assert vector_lengths(made, 16) == (8, 4)
    assert vector_lengths(sealed / "fp32", 16) == ()
    vectors = OnnxEncoder(made, threads=1).encode(sentences(3))
    cut = shortened(vectors, 8, unit=True)
    assert (cut.shape, cut.dtype) == ((3, 8), np.float32)
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(cut, vectors[:, :8] / np.linalg.norm(vectors[:, :8], axis=1)[:, None], atol=1e-6)
    np.testing.assert_array_equal(shortened(vectors, 4, unit=False), vectors[:, :4])


async def never() -> None:
    await asyncio.Event().wait()


def test_results_come_in_their_order_and_wake_the_loop_once() -> None:
    futures = [Future[int]() for _ in range(3)]

    def compute() -> None:
        for number in (2, 0, 1):
            futures[number].set_result(number)

    async def ask() -> list[Any]:
        threading.Timer(0.05, compute).start()
        return await results(futures, never)

    assert asyncio.run(ask()) == [0, 1, 2]


def test_what_one_text_raises_reaches_its_request() -> None:
    futures = [Future[int](), Future[int]()]
    futures[0].set_result(1)
    futures[1].set_exception(ArtifactError("broken"))
    with pytest.raises(ArtifactError, match="broken"):
        asyncio.run(results(futures, never))


def test_what_waits_for_a_client_that_left_is_not_computed() -> None:
    futures = [Future[int](), Future[int]()]
    futures[0].set_running_or_notify_cancel()  # a worker has begun it

    async def leaves() -> None:
        await asyncio.sleep(0.02)
        asyncio.get_running_loop().call_later(0.02, futures[0].set_result, 1)

    with pytest.raises(Gone):
        asyncio.run(results(futures, leaves))
    assert futures[1].cancelled()


def test_a_request_is_queued_whole_or_not_at_all(sealed: Path) -> None:
    encoder = OnnxEncoder(sealed / "fp32", threads=1)
    texts = sentences(8)
    prepared = [encoder.prepare(text) for text in texts]
    batcher = Batcher(encoder, most_waiting=7)
    with pytest.raises(BusyError):
        batcher.submit_prepared(prepared)
    assert batcher.waiting == 0
    found = np.stack([future.result(60) for future in batcher.submit_prepared(prepared[:7])])
    np.testing.assert_allclose(found, encoder.encode(texts[:7]), atol=1e-5)
    batcher.close()
    with pytest.raises(CompressorError, match="closed"):
        batcher.submit_prepared(prepared[:1])


def test_lengths_of_texts_are_counted_uncut(sealed: Path) -> None:
    words = OnnxEncoder(sealed / "fp32", threads=1).words
    assert words.lengths(["the cat", "the " * 100]) == [4, 102]
    assert [len(ids) for ids in words.encode(["the cat", "the " * 100])] == [4, 64]
    assert (words.side, words.vocabulary > 64) == ("right", True)
