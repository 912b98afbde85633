"""The program of a worker: runs one peer in that peer's environment, a JSON line a request.

    {"do": "prepare", "runner": …, "teacher": …, "folder": …, "texts": […], "options": {…}}
    {"do": "load", "runner": …, "teacher": …, "folder": …, "threads": …, "options": {…}}
    {"do": "use", "setting": {…}}
    {"do": "encode", "texts": […], "batch_size": …, "to": a .npy file, or null, "role": "query", "document" or null}
    {"do": "latencies", "texts": […]}

Each is answered by a line, {"error": …} where it failed. Time is taken around the peer's own call alone. The program
ends with its input. It needs NumPy and the peer, nothing of this project.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WAKING = 3


class Program:
    """What the requests ask for."""

    def __init__(self) -> None:
        self.running: Any = None

    def prepare(self, runner: str, teacher: str, folder: str, texts: list[str], options: dict[str, Any]) -> Any:
        _module(runner).prepare(teacher, folder, texts, **options)
        return {}

    def load(self, runner: str, teacher: str, folder: str | None, threads: int, options: dict[str, Any]) -> Any:
        module = _module(runner)
        start = time.perf_counter()
        self.running = module.load(teacher, folder, threads, **options)
        return {
            "seconds": time.perf_counter() - start,
            "dim": self.running.dim,
            "max_length": self.running.max_length,
            "settings": list(self.running.settings),
            "size_bytes": self.running.size_bytes,
            "threads": self.running.threads,
            "versions": {"python": ".".join(map(str, sys.version_info[:3])), **_versions(module.PACKAGES)},
        }

    def use(self, setting: dict[str, Any]) -> Any:
        self.running.use(setting)
        return {}

    def encode(self, texts: list[str], batch_size: int, to: str | None, role: str | None = None) -> Any:
        # A peer that knows of no roles has one way to encode.
        encode = getattr(self.running, f"encode_{role}", self.running.encode)
        start = time.perf_counter()
        vectors = encode(texts, batch_size)
        seconds = time.perf_counter() - start
        if to is not None:
            import numpy as np

            np.save(to, vectors, allow_pickle=False)
        return {"seconds": seconds}

    def latencies(self, texts: list[str]) -> Any:
        for text in texts[:_WAKING]:
            self.running.encode([text], 1)
        milliseconds = []
        for text in texts:
            start = time.perf_counter()
            self.running.encode([text], 1)
            milliseconds.append(1000 * (time.perf_counter() - start))
        return {"milliseconds": milliseconds}


def _module(runner: str) -> Any:
    return importlib.import_module(f"runners.{runner}")


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _answer(program: Program, line: str) -> dict[str, Any]:
    request = json.loads(line)
    do: Callable[..., dict[str, Any]] = getattr(program, request.pop("do"))
    try:
        return do(**request)
    except Exception as error:  # the peers raise whatever they like
        lines = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {lines[0] if lines else 'says nothing'}"}


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the libraries print is no answer
    sys.path.append(str(Path(__file__).parent))  # last: its modules have names that others have, too
    program = Program()
    for line in sys.stdin:
        print(json.dumps(_answer(program, line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
