"""This side of a worker: its process, asked a line at a time, ended with its user."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import psutil

from compressor.core.encoder import Vectors
from compressor.core.errors import PeerError
from compressor.machine.threads import environment
from compressor.vectors.retrieval import Role
from exporters.server.settings import KEY

_PROGRAM = Path(__file__).with_name("worker.py")
_ROOT = Path(__file__).parents[2]
_NOT_THEIRS = ("PYTHONPATH", "PYTHONHOME", KEY)  # the key of one who serves: they would ask for it
LIMIT_SECONDS = 1800.0
"""A request that takes longer is given up, and its worker with it."""
_AT_ONCE = 4096  # texts of a request for vectors


class Worker:
    """A process that runs one peer."""

    def __init__(self, python: Path, threads: int, own: bool = False) -> None:
        """Start the interpreter ``python``; one of this project's ``own`` finds its packages, another does not."""
        self._folder = tempfile.TemporaryDirectory(prefix="compressor-peer-")
        self._log = Path(self._folder.name) / "log"
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    [str(python), "-P", "-W", "ignore", str(_PROGRAM)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=variables_of(threads, own),
                    start_new_session=True,  # Ctrl-C is for this process, which ends its workers
                )
            except OSError as error:
                raise PeerError(f"{python}: cannot be started: {error.strerror}") from error
        self._watched = psutil.Process(self._process.pid)
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process and what it has started, and remove what it wrote."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._folder.cleanup()

    def cpu_seconds(self) -> float:
        """Return the processor time the process has used so far; 0 once it has ended."""
        try:
            times = self._watched.cpu_times()
        except psutil.Error:
            return 0.0
        return times.user + times.system

    def vectors(self, texts: Sequence[str], batch_size: int, role: Role | None = None) -> Vectors:
        """Return float32 [len(texts), dim]; PeerError where they are not of that shape, or not finite.

        As queries or documents, where ``role`` says so. Many texts are asked for in several requests, so that each is
        within the time and the memory of one.
        """
        parts = [texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE)]
        return np.concatenate([self._part(part, batch_size, role) for part in parts])

    def _part(self, texts: Sequence[str], batch_size: int, role: Role | None) -> Vectors:
        path = Path(self._folder.name) / "vectors.npy"
        self.ask("encode", texts=list(texts), batch_size=batch_size, to=str(path), role=role)
        vectors: Vectors = np.load(path, allow_pickle=False)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise PeerError(f"gave {list(vectors.shape)} numbers for {len(texts)} texts")
        if not np.isfinite(vectors).all():
            raise PeerError("gave vectors that are not finite")
        return vectors.astype(np.float32)

    def seconds(self, texts: Sequence[str], batch_size: int) -> float:
        """Return what encoding took by the worker's own clock: text in, vectors out."""
        return float(self.ask("encode", texts=list(texts), batch_size=batch_size, to=None)["seconds"])

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Return the answer to a request; PeerError, in one line, where the worker fails, ends or does not answer."""
        line = json.dumps({"do": do, **request}) + "\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise PeerError(self._end()) from error
        answer: dict[str, Any] = json.loads(self._line())
        if "error" in answer:
            raise PeerError(_one_line(answer["error"]))
        return answer

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + LIMIT_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise PeerError(f"did not answer within {LIMIT_SECONDS:g} s")
                piece = os.read(self._process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise PeerError(self._end())
                self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _end(self) -> str:
        """Say how the process ended: by which signal, or what it said last."""
        status = self._process.wait()
        if status < 0:
            return f"its process was ended by signal {-status} ({signal.Signals(-status).name})"
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"its process ended with status {status}" + (f": {_one_line(lines[-1])}" if lines else "")


def variables_of(threads: int, own: bool) -> dict[str, str]:
    """Return the variables of a peer's process: every library's threads as asked for, whatever the user's shell has."""
    variables = {name: value for name, value in environment(threads).items() if name not in _NOT_THEIRS}
    ours = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    return variables | {"TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"} | ({"PYTHONPATH": ours} if own else {})


def _one_line(text: str, length: int = 300) -> str:
    return " ".join(text.split())[:length]
