"""The sessions of an artifact that is used: batches side by side, and one that has all threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from exporters.runtime.names import CPU
from exporters.runtime.providers import open_session
from exporters.runtime.running import Running


class Sessions(NamedTuple):
    """Sessions, and what runs batches side by side: a process's own."""

    side_by_side: Any
    alone: Any
    """For a single batch; None where that is the same."""
    pool: ThreadPoolExecutor


def open_sessions(folder: Path, providers: Sequence[str], threads: int, running: Running) -> Sessions:
    """Open the graph in ``folder``; on a CPU with as many threads a session as ``running`` says, else with all."""
    on_cpu = list(providers) == [CPU]
    each = min(running.threads, threads) if on_cpu else threads
    side_by_side = open_session(folder, providers, each, running)
    alone = open_session(folder, providers, threads, running) if on_cpu and threads > 1 else None
    return Sessions(side_by_side, alone, ThreadPoolExecutor(threads // each))
