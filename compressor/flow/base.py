"""The way from teacher to report that a recipe of every task walks, over the stages that the task's flow gives."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from benchmarks.report.page import write_report
from compressor.artifact.licence import licence_of
from compressor.artifact.workspace import Keyed, Model, Workspace
from compressor.core.progress import say
from compressor.flow.results import Head, Measured, Results, TeacherFacts
from compressor.machine.describe import describe
from compressor.machine.processes import alone, rank
from compressor.models.source import Source
from exporters.precision.calibrate import Batch
from exporters.verify.check import Check, gate


def run(flow: "Flow", command: str) -> dict[str, Any]:
    """Walk ``flow`` into its run's folder and return the results, made by ``command``; they and their page stay there.

    Goes on from the last finished stage; a changed setting runs only what depends on it. Whatever stops it
    is a CompressorError of one line, a figure below its bar a GateError.
    """
    started = time.monotonic()
    if not flow.shared:
        alone(f"{flow.recipe.task} trains")
    if rank():
        flow.follow()
        return {}
    with flow.work.lock():
        flow.check()
        flow.announce()
        stages = {"teacher": flow.teacher} | flow.make_student()
        *_, student = stages.values()
        if torch8 := flow.quantize(student):
            stages["quantize"] = torch8
        fp32 = flow.optimise(flow.export(student))
        int8 = flow.search(fp32) or flow.int8(fp32)
        checks = flow.verify(student, fp32, int8)
        stages |= flow.hand_out(student, fp32, int8, checks)
        results = Results(
            measured=flow.measure(stages),
            own=flow.own_results(stages),
            head=flow.head(),
            command=command,
            seconds=time.monotonic() - started,
            verify=checks,
            graphs={"fp32": fp32.figures["operators"], "int8": int8.figures["operators"]},
        )
        results.write(flow.work.folder / "results.json")
        write_report(results.as_dict(), flow.work.folder / "report.html")
    return results.as_dict()


@dataclass(frozen=True)
class Flow(ABC):
    """The stages of a run, each with what it depends on; what is abstract, a task's own flow gives."""

    recipe: Any
    base: Path
    """Folder that the paths in the recipe are relative to."""
    work: Workspace
    shared: ClassVar[bool] = False
    """Whether several processes, as torchrun starts them, may train together."""

    @classmethod
    def of(cls, recipe: Any, base: Path, runs: Path) -> Self:
        """Return the flow of ``recipe`` into ``runs/<name>``."""
        return cls(recipe, base, Workspace(runs / recipe.name))

    @property
    @abstractmethod
    def source(self) -> Source:
        """Return the model that the recipe names."""

    @property
    @abstractmethod
    def teacher(self) -> Model:
        """Return the model to compress: ``source``, or what is first made of it."""

    @abstractmethod
    def data(self) -> tuple[str, str]:
        """Return what the student learns and is judged by, and a line about it: "texts", "texts.txt: 300 to train"."""

    @abstractmethod
    def check(self) -> None:
        """Hold the settings against teacher and data before any work."""

    @abstractmethod
    def make_student(self) -> dict[str, Model]:
        """Return the student after each of its steps, by stage, the finished one last; none: the teacher goes on."""

    @abstractmethod
    def export(self, student: Model) -> Model:
        """Make one ONNX graph of the student."""

    @abstractmethod
    def sample(self, fp32: Path, count: int) -> tuple[Keyed, Callable[[], Iterable[Batch]]]:
        """Return what int8 is calibrated on, and how it is read by the graph in ``fp32``: at most ``count`` of it."""

    @abstractmethod
    def examine(self, student: Model, fp32: Model, int8: Model) -> Model:
        """Hold both artifacts against the student and the bars; return the stage with their ``checks.json``."""

    @abstractmethod
    def hand_out(self, student: Model, fp32: Model, int8: Model, checks: Sequence[Check]) -> dict[str, Model]:
        """Publish what passed the gate, by precision."""

    @abstractmethod
    def measure(self, stages: dict[str, Model]) -> Measured:
        """Measure every stage's quality and the systems' speed."""

    def follow(self) -> None:
        """Take part, as another process than the first, in the training; RecipeError for a task that has one alone."""
        alone(f"{self.recipe.task} trains")

    def quantize(self, student: Model) -> Model | None:
        """Make the PyTorch int8 form; None where the recipe does not ask for it, or the task has none."""
        return None

    def search(self, fp32: Model) -> Model | None:
        """Search an int8 form that stands for that of ``int8``; None as for ``quantize``."""
        return None

    def own_results(self, stages: dict[str, Model]) -> dict[str, Any]:
        """Return what the results of this task have besides."""
        return {}

    def teacher_facts(self) -> dict[str, Any]:
        """Return what the results of this task say of the teacher besides its name and weights."""
        return {}

    def announce(self) -> None:
        """Say what goes in."""
        source, (data, line) = self.source, self.data()
        stored = "" if source.stored == "fp32" else f"; weights in {source.stored}, opened as fp32"
        say(("teacher", "bold"), f": {source.name} ({source.origin}), sha256 {source.weights_sha256}{stored}")
        say((data, "bold"), f": {line}")

    def optimise(self, graph: Model) -> Model:
        """Fuse the graph's operators."""
        stage = self.recipe.optimise
        return self.work.stage("optimise", stage, [graph], lambda to: stage.run(graph.folder, to))

    def int8(self, fp32: Model) -> Model:
        """Make the int8 graph, its ranges calibrated where the recipe asks for it."""
        stage = self.recipe.int8
        if stage.ranges == "batch":
            return self.work.stage("int8", stage, [fp32], lambda to: stage.run(fp32.folder, to))
        read, batches = self.sample(fp32.folder, stage.sample)
        return self.work.stage("int8", stage, [fp32, read], lambda to: stage.run(fp32.folder, to, batches))

    def verify(self, student: Model, fp32: Model, int8: Model) -> list[Check]:
        """Return the checks of both artifacts; GateError if one missed its bar."""
        checks = self.checks(student, fp32, int8)
        gate(checks)
        return checks

    def checks(self, student: Model, fp32: Model, int8: Model) -> list[Check]:
        """Return the checks of both artifacts, missed ones too."""
        return [Check.read(row) for row in self.examine(student, fp32, int8).json("checks.json")]

    def provenance(self) -> dict[str, Any]:
        """Return what every artifact says of where it comes from: the fields of ``HandOut`` but its precision."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "teacher": self.source.name,
            "teacher_sha256": self.source.weights_sha256,
            "teacher_license": licence_of(self.source.folder),
        }

    @cached_property
    def machine(self) -> dict[str, Any]:
        """Describe the machine once: the benchmark's key and the results say the same."""
        return describe()

    def head(self) -> Head:
        """Return what the results of every task begin with."""
        source = self.source
        return Head(
            name=self.recipe.name,
            task=self.recipe.task,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            recipe=self.recipe.model_dump(mode="json"),
            environment=self.machine,
            teacher=TeacherFacts(source.name, source.origin, source.weights_sha256, self.teacher_facts()),
        )
