"""A process apart for what strangers wrote: what it opens cannot take this one's memory, time or life."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from compressor.artifact.manifest import sha256
from compressor.core.errors import ArtifactError, DependencyError

MEMORY_BYTES = 2 << 30  # of a graph's process, beside so many times the file's own size
_TIMES = 8
_CPU_SECONDS, _BYTES_A_SECOND = 8, 20 << 20  # a tenth of it does for a sound file
_MOST_GRAPH_BYTES = (2 << 30) - 1  # protobuf's own bound
_PROGRAM = Path(__file__).with_name("process.py")
_NO_ONNX = "onnx: not installed, and artifacts are checked by it; pip install 'compressor[check]'"
_ahead: list[subprocess.Popen[bytes]] = []


def described(path: Path) -> dict[str, Any]:
    """Return what an Inspector is told of a file."""
    return {"path": str(path.absolute()), "size": path.stat().st_size, "sha256": sha256(path)}


def start_ahead() -> None:
    """Start the process of the next Inspector: its libraries load while this process still imports its own."""
    _ahead.append(_start())


class Inspector:
    """A process that opens one stranger's graph or tokenizer, and is bounded in memory and time."""

    def __enter__(self) -> "Inspector":
        if not _has_onnx():
            raise DependencyError(_NO_ONNX)
        self.process = _ahead.pop() if _ahead else _start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(
        self,
        label: Path,
        wanted: Mapping[str, Mapping[str, Any]],
        form: str = "ids",
        truncation: Mapping[str, Any] | None = None,
        length: Mapping[str, Any] | None = None,
        prompts: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return what was found of the files wanted, each ``path``, ``size`` and ``sha256``.

        They are a ``graph`` of ``form`` (see ``graph.FORMS``), or an ``archive`` with one in it, a ``tokenizer``, and
        the conformance ``cases`` that both are held against, cut by ``truncation`` and behind the model's ``prompts``.
        The graph must have positions for a ``length`` of ``tokens``, as it is ``stated``. Raises ArtifactError, naming
        ``label``, where they are refused.
        """
        size = sum(int(entry["size"]) for entry in wanted.values())
        if size > _MOST_GRAPH_BYTES:
            raise ArtifactError(f"{label}: {size} bytes; a graph has at most {_MOST_GRAPH_BYTES}")
        memory, seconds = MEMORY_BYTES + _TIMES * size, _CPU_SECONDS + size // _BYTES_A_SECOND
        how = {"form": form, "truncation": truncation, "length": length, "prompts": prompts}
        request = json.dumps({**wanted, **how, "memory_bytes": memory, "cpu_seconds": seconds}) + "\n"
        try:
            reply, _ = self.process.communicate(request.encode(), timeout=3 * seconds)
        except subprocess.TimeoutExpired as error:
            raise ArtifactError(f"{label}: not checked within {3 * seconds} s; refused") from error
        except BrokenPipeError:  # it ended before it was asked
            reply = b""
        return _answer(label, reply, self.process.returncode, seconds)


def _start() -> subprocess.Popen[bytes]:
    # -P: the folder of the program holds modules of names that others have, too. One thread each: a pool for every
    # core would count as memory.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        [sys.executable, "-P", "-B", str(_PROGRAM)],
        env=os.environ | threads,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _has_onnx() -> bool:
    try:
        return find_spec("onnx") is not None  # to import it here would take its time
    except ImportError:
        return False


def _answer(label: Path, reply: bytes, status: int, seconds: int) -> dict[str, Any]:
    try:
        answer = json.loads(reply)
    except ValueError as error:
        if status < 0:
            raise ArtifactError(
                f"{label}: refused: the process that opened it was ended by signal {-status} (it has {seconds} s)"
            ) from error
        raise ArtifactError(f"{label}: the process that opens graphs ended with status {status}") from error
    if "refused" in answer:
        raise ArtifactError(f"{label}: {answer['refused']}")
    found: dict[str, Any] = answer["found"]
    return found
