"""Which provider each node of a graph really ran on, and as which operator: read from ONNX Runtime's own profile."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from compressor.artifact.layout import EMBEDDING
from exporters.runtime.providers import open_session

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
    with TemporaryDirectory() as aside:
        session = open_session(folder, [provider], 1, profile=Path(aside) / "profile")
        inputs = {value.name: feeds[value.name] for value in session.get_inputs()}
        try:
            session.run([EMBEDDING[1]], inputs)
        finally:
            written = Path(session.end_profiling())
        return Placement(tuple(_nodes(json.loads(written.read_text("utf-8")))))


def _nodes(events: Iterable[Mapping[str, Any]]) -> Iterable[Node]:
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time"):
            about = event["args"]
            yield Node(about["op_name"], about["provider"], max(map(prod, _shapes(about)), default=0))


def _shapes(about: Mapping[str, Any]) -> list[Sequence[int]]:
    return [shape for entry in about.get("output_type_shape") or [] for shape in entry.values()]
