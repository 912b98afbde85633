"""Fixtures of the benchmarks' tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.peers import environments
from benchmarks.peers.process import Worker
from compressor.models.source import Source, find


@pytest.fixture
def source(tiny: Path) -> Source:
    """Return the tiny teacher."""
    return find(str(tiny))


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Open a peer's process in this environment."""
    with Worker(environments.own(), 1, own=True) as opened:
        yield opened
