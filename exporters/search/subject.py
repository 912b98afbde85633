"""What a search is about: an fp32 artifact, how near one of its forms stays to it, and how fast that runs."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from exporters.precision.calibrate import Batch
from exporters.runtime.names import CPU, with_cpu
from exporters.runtime.placed import Placed, nodes
from exporters.runtime.running import Running
from exporters.search.contest import Pass

COMPARED = 512
"""Texts, or questions, that are compared in quality, at most."""
ALONE = 64
"""Of those, how many texts, or windows, are computed alone, padded and in a batch."""
LARGEST_BATCH = 128
"""Of a whole pass: what a batch has at most beside its tokens."""


@dataclass(frozen=True)
class Subject(ABC):
    """An fp32 artifact with what its forms are made and judged on: texts, or questions. Each task has its own kind."""

    fp32: Path
    sample: Sequence[Any]
    """What ranges are measured on."""
    dev: Sequence[Any]
    """What quality is measured on."""
    timed: Sequence[Any]
    """What speed is measured on."""
    provider: str = CPU
    """The execution provider that forms run on, with its options."""
    unit: ClassVar[str]
    """What these are, in a message."""
    settings: ClassVar[tuple[str, ...]]
    """The fields of Running that matter to it, in the order in which they are searched."""

    @abstractmethod
    def batches(self, count: int) -> Iterable[Batch]:
        """Return at most ``count`` of the sample as the graph reads them."""

    @property
    def providers(self) -> list[str]:
        """The provider, and what is behind it."""
        return with_cpu(self.provider)

    @abstractmethod
    def figures(self, folder: Path, running: Running | None = None) -> dict[str, float]:
        """Return how near the form in ``folder`` is to fp32, and to itself in another batch; see the search's bars.

        Run as ``running`` says, where that changes results; ``nodes_on_cpu_provider`` where another takes a part alone.
        """

    @abstractmethod
    def graph_pass(self, folder: Path) -> Pass:
        """Return a pass of the graph in ``folder`` alone."""

    @abstractmethod
    def whole_pass(self, folder: Path, running: Running | None) -> Pass:
        """Return a pass of all that a user waits for, run as ``running`` says."""


def fallen_of(placed: Placed | None) -> dict[str, float]:
    """Return the count of a form's nodes that run on the CPU provider, where another takes a part of it alone."""
    return {} if placed is None else {"nodes_on_cpu_provider": float(nodes(placed, CPU))}
