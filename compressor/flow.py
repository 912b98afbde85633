"""What the flows of all tasks share."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compressor.progress import say
from compressor.stages import Model, Workspace
from compressor.teacher import Source


@dataclass(frozen=True)
class BaseFlow:
    """The stages of a run, each with what it depends on; a task's own flow adds its own."""

    recipe: Any
    base: Path
    work: Workspace

    def optimise(self, graph: Model) -> Model:
        stage = self.recipe.optimise
        return self.work.stage("optimise", stage, [graph], lambda to: stage.run(graph.folder, to))

    def int8(self, fp32: Model) -> Model:
        stage = self.recipe.int8
        return self.work.stage("int8", stage, [fp32], lambda to: stage.run(fp32.folder, to))

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
    say(f"[bold]teacher[/]: {source.name} ({source.origin}), sha256 {source.weights_sha256}")
