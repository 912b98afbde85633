"""The teacher's part of a run done ahead: its vectors, into the cache in which the run finds them."""

from dataclasses import dataclass
from pathlib import Path

from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.machine.cluster import Cluster
from compressor.models.teaching import teach


@dataclass(frozen=True)
class Taught:
    """What is kept."""

    folder: Path
    texts: int
    precisions: tuple[str, ...]
    """Of the texts to learn from, and of those to measure on."""


def teach_recipe(recipe: Recipe, base: Path, runs: Path, cluster: Cluster | None = None) -> Taught:
    """Keep the teacher's vectors that ``run`` would compute for ``recipe``; its settings are checked first."""
    flow = EmbeddingFlow.of(recipe, base, runs)
    flow.check()
    flow.announce()
    asked = flow.asked()
    folder = teach(flow.teacher, asked, cluster)
    return Taught(folder, sum(len(part.texts) for part in asked), tuple(dict.fromkeys(p.precision for p in asked)))
