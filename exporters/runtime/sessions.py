"""The sessions of an artifact that is used: batches side by side, and one that has all threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from exporters.runtime.names import Given
from exporters.runtime.providers import open_session, side_by_side, stated_streams
from exporters.runtime.running import Running


class Sessions(NamedTuple):
    """Sessions, and what runs batches side by side: a process's own."""

    side_by_side: Any
    alone: Any
    """For a single batch; None where that is the same."""
    pool: ThreadPoolExecutor


def open_sessions(folder: Path, providers: Sequence[Given], threads: int, running: Running) -> Sessions:
    """Open the graph in ``folder``; on a CPU with as many threads a batch as ``running`` says, else with all.

    Where OpenVINO is told how many streams it has, these run side by side, and no other session is opened.
    """
    if not side_by_side(providers):
        return Sessions(open_session(folder, providers, threads, running), None, ThreadPoolExecutor(1))
    stated = stated_streams(providers)
    each = max(1, threads // stated) if stated else min(running.threads, threads)
    count = stated or threads // each
    many = open_session(folder, providers, each, running, streams=count)
    alone = open_session(folder, providers, threads, running) if threads > 1 and not stated else None
    return Sessions(many, alone, ThreadPoolExecutor(count))
