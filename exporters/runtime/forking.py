"""What a forked child opens again: threads do not go along with a fork, and whoever waits for one waits for ever."""

import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError, CompressorError

Opened = TypeVar("Opened")
_sessions: WeakSet[Any] = WeakSet()
_reopening = threading.Lock()


class PerProcess(Generic[Opened]):
    """What has threads: opened at once, and opened again by each forked child that uses it."""

    def __init__(self, folder: Path, open_folder: Callable[[Path], Opened]) -> None:
        self._opened = open_folder(folder)
        self._open, self.folder = open_folder, folder.absolute()  # a child may stand in another folder
        self._graph, self._pid = _stamp(self.folder), os.getpid()

    def __call__(self) -> Opened:
        """Return this process's own; ArtifactError where the graph has changed since the parent opened it."""
        if self._pid != os.getpid():
            with _reopening:
                if self._pid != os.getpid():
                    self._opened, self._pid = self._again(), os.getpid()
        return self._opened

    def _again(self) -> Opened:
        if _stamp(self.folder) != self._graph:
            raise ArtifactError(
                f"{self.folder / GRAPH}: changed since the process that this one was forked from opened it; "
                "open the artifact again"
            )
        return self._open(self.folder)


def check_process(owner: str, pid: int) -> None:
    """Raise CompressorError in any process but ``pid``, whose threads ``owner`` waits for."""
    if pid != os.getpid():
        raise CompressorError(f"{owner}: belongs to process {pid}, which this one was forked from; begin another here")


def watched(session: Any) -> Any:
    """Return a session of ONNX Runtime, which forked children are to leave alone."""
    _sessions.add(session)
    return session


def _stamp(folder: Path) -> tuple[int, int] | None:
    try:
        status = (folder / GRAPH).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _leave_alone() -> None:
    """Keep the parent's sessions for good: one that is freed waits for its threads, and they are not here."""
    global _reopening
    _reopening = threading.Lock()  # another thread of the parent may have held it
    for session in _sessions:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    if _sessions:  # the tokenizers' threads are not here either
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_alone)
