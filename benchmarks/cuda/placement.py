"""Which provider each node of a graph really ran on, and as which operator: read from ONNX Runtime's own profile."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from exporters.runtime.profile import is_node, recorded, shapes

SHAPE_NUMBERS = 8
"""What computes shapes gives a few whole numbers; ONNX Runtime leaves it to the CPU, where its results are needed."""
_COPIES = ("MemcpyFromHost", "MemcpyToHost")


@dataclass(frozen=True)
class Node:
    """One node, as it ran."""

    operator: str
    provider: str
    numbers: int
    """In the largest of its outputs."""


@dataclass(frozen=True)
class Placement:
    """All nodes of one run."""

    nodes: tuple[Node, ...]

    def operators(self) -> dict[str, int]:
        """Count the operators that ran."""
        return dict(sorted(Counter(node.operator for node in self.nodes).items()))

    def elsewhere(self, provider: str) -> dict[str, int]:
        """Count the operators that ran on another provider than ``provider``, or copied to and from the CPU."""
        away = [node for node in self.nodes if node.provider != provider or node.operator in _COPIES]
        return dict(sorted(Counter(node.operator for node in away).items()))

    def astray(self, provider: str) -> list[str]:
        """Name the operators of ``elsewhere`` that give more than shapes."""
        away = [node for node in self.nodes if node.provider != provider or node.operator in _COPIES]
        return sorted({node.operator for node in away if node.numbers > SHAPE_NUMBERS})


def placement(folder: Path, provider: str, feeds: Mapping[str, Any]) -> Placement:
    """Run an artifact's graph once on ``provider`` and return where each node ran.

    ``feeds``, int64 [texts, tokens], must hold more numbers than a shape has.
    """
    return Placement(tuple(_nodes(recorded(folder, feeds, 1, provider))))


def _nodes(events: Iterable[Mapping[str, Any]]) -> Iterable[Node]:
    for event in filter(is_node, events):
        about = event["args"]
        yield Node(about["op_name"], about["provider"], max(map(prod, shapes(about, "output")), default=0))
