"""What the flows of all tasks share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compressor.artifact.workspace import Keyed, Model, Workspace
from compressor.core.progress import say
from compressor.models.source import Source
from exporters.precision.calibrate import Batch


@dataclass(frozen=True)
class BaseFlow(ABC):
    """The stages of a run, each with what it depends on; a task's own flow adds its own."""

    recipe: Any
    base: Path
    work: Workspace

    def optimise(self, graph: Model) -> Model:
        stage = self.recipe.optimise
        return self.work.stage("optimise", stage, [graph], lambda to: stage.run(graph.folder, to))

    def int8(self, fp32: Model) -> Model:
        stage = self.recipe.int8
        if stage.ranges == "batch":
            return self.work.stage("int8", stage, [fp32], lambda to: stage.run(fp32.folder, to))
        read, batches = self.sample(fp32.folder, stage.sample)
        return self.work.stage("int8", stage, [fp32, read], lambda to: stage.run(fp32.folder, to, batches))

    @abstractmethod
    def sample(self, fp32: Path, count: int) -> tuple[Keyed, Callable[[], Iterable[Batch]]]:
        """Return what int8 is calibrated on, and how it is read by the graph in ``fp32``: at most ``count`` of it."""

    def head(self, source: Source, machine: dict[str, Any]) -> dict[str, Any]:
        """Return what the results of every task begin with."""
        return {
            "name": self.recipe.name,
            "task": self.recipe.task,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": self.recipe.model_dump(mode="json"),
            "environment": machine,
            "teacher": {"name": source.name, "source": source.origin, "weights_sha256": source.weights_sha256},
        }


def say_teacher(source: Source) -> None:
    """Say what a run begins with."""
    say(("teacher", "bold"), f": {source.name} ({source.origin}), sha256 {source.weights_sha256}")
