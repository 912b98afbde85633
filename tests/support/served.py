"""A server as a person starts it: a process of its own, on a port of its own, asked over loopback."""

import http.client
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from compressor.artifact.folder import key_of, writing
from exporters.verify.conformance import write_conformance

ROOT = Path(__file__).parents[2]
SECONDS = 120.0


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def message(self) -> str:
        """The line of a refusal."""
        error = self.json["error"]
        return str(error if isinstance(error, str) else error["message"])


class Server:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, lines: "queue.Queue[str]") -> None:
        self.process, self.port, self._lines = process, port, lines

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Reply:
        """Send JSON, or bytes as they are; GET where there is no body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            given = {"Content-Type": "application/json"} | {n.replace("_", "-"): v for n, v in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, sent, given)
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, named, response.read())
        finally:
            connection.close()

    def end(self, number: int = signal.SIGTERM) -> str:
        """Tell it to end, wait, and return its last line."""
        self.process.send_signal(number)
        self.process.wait(SECONDS)
        lines = list(iter(self._lines.get, ""))
        return lines[-1] if lines else ""


@contextmanager
def serving(*arguments: Any, **environment: str) -> Iterator[Server]:
    """Run ``compressor serve`` with the arguments; killed at the end where it is still there."""
    command = [sys.executable, "-m", "compressor.cli", "serve", *map(str, arguments), "--port", "0"]
    with serving_by(command, ROOT, {"PYTHONPATH": str(ROOT)} | environment) as server:
        yield server


@contextmanager
def serving_by(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[Server]:
    """Run a server by its whole command in ``folder``."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    process = subprocess.Popen(command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines: queue.Queue[str] = queue.Queue()
    errors = list[str]()
    threads = [
        threading.Thread(target=_follow, args=(process.stdout, lines.put), daemon=True),
        threading.Thread(target=_follow, args=(process.stderr, errors.append), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        first = lines.get(timeout=SECONDS)
        if not first:
            process.wait(SECONDS)
            threads[1].join(SECONDS)
            raise AssertionError(f"it ended with {process.returncode}: {''.join(errors)}")
        yield Server(process, int(first.split()[0].rpartition(":")[2]), lines)
    finally:
        process.kill()
        process.wait()


def _follow(stream: Any, put: Any) -> None:
    for line in stream:
        put(line.strip())
    put("")


def handed_out_as(
    artifact: Path, to: Path, name: str, recipe: dict[str, Any] | None = None, prompts: dict[str, str] | None = None
) -> Path:
    """Copy an artifact as a run hands it out, by its recipe's name: with a conformance set and, maybe, prompts."""
    config = {"recipe": {"name": name} | (recipe or {})}
    with writing(to, f"artifacts/{artifact.name}", key_of(name), config) as draft:
        shutil.copytree(artifact, draft.folder, dirs_exist_ok=True)
        (draft.folder / "manifest.json").unlink()
        if prompts:
            path = draft.folder / "config_sentence_transformers.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts": prompts}, indent=2))
        write_conformance(draft.folder, "int8" if artifact.name == "int8" else "fp32")
    return to


def prefixed(artifact: Path, to: Path, *lengths: int) -> Path:
    """Copy an artifact as one whose recipe says that its vectors may be cut at ``lengths``."""
    return handed_out_as(artifact, to, "prefixed", {"distil": {"matryoshka": list(lengths)}, "pca": None})


@pytest.fixture(scope="session")
def servable(sealed: Path, reader: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return hand-outs that ``verify`` accepts: of encoders ``fp32`` and ``int8``, and of a ``reader``."""
    home = tmp_path_factory.mktemp("servable")
    made = {"fp32": sealed / "fp32", "int8": sealed / "int8", "reader": reader / "fp32"}
    return {name: handed_out_as(folder, home / name, "tiny") for name, folder in made.items()}
