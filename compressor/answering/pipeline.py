"""The flow of a reader: teacher -> distil in steps -> quantize -> export -> optimise -> int8 -> verify -> bench."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from benchmarks.reader_bench import ReaderBench, systems_of
from benchmarks.reader_report import write_reader_report
from benchmarks.reader_story import ReaderStory, Told, with_answers
from compressor.answering.augment import Augment, candidates_of
from compressor.answering.finetune import Finetune
from compressor.answering.quantize import ReaderTorchInt8
from compressor.answering.reader import Reading
from compressor.answering.sets import QuestionSets, Sets
from compressor.answering.silence import Threshold
from compressor.answering.squad import Questions, read_squad
from compressor.answering.steps import Step, as_questions, check_steps
from compressor.answering.teacher import ReaderTeacher, is_encoder
from compressor.artifact import Draft, key_of, write_json
from compressor.corpus import Texts
from compressor.errors import RecipeError
from compressor.machine import describe
from compressor.progress import say
from compressor.recipe import Config
from compressor.stages import Key, Keyed, Model, Workspace
from compressor.teacher import Source, layers_stated
from exporters.optimise import Optimise
from exporters.quantize import OnnxInt8
from exporters.reader_card import PublishReader
from exporters.reader_export import ReaderExport
from exporters.reader_verify import ReaderVerify
from exporters.verify import gate

C = TypeVar("C", bound=Config)


class ReaderRecipe(Config):
    """One recipe, one shipped reader. The steps of distil run in their order; quantize runs where its section
    stands."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run's folder; by default the recipe file's."""
    task: Literal["question-answering"]
    """What the model is for."""
    teacher: ReaderTeacher = ReaderTeacher()
    questions: QuestionSets
    reading: Reading = Reading()
    finetune: Finetune | None = None
    augment: Augment = Augment()
    texts: Texts = Texts()
    distil: tuple[Step, ...] = (Step(),)
    """The steps, in their order."""
    quantize: ReaderTorchInt8 | None = None
    export: ReaderExport = ReaderExport()
    optimise: Optimise = Optimise()
    int8: OnnxInt8 = OnnxInt8()
    verify: ReaderVerify = ReaderVerify()
    bench: ReaderBench = ReaderBench()


def run_reader(recipe: ReaderRecipe, base: Path, runs: Path, command: str) -> dict[str, Any]:
    """Walk the flow into ``runs/<name>/`` and return the results; paths in the recipe are relative to ``base``.

    Goes on from the last finished stage; a changed setting runs only what depends on it. Whatever stops it
    is a CompressorError of one line, a figure below its bar a GateError.
    """
    started, work = time.monotonic(), Workspace(runs / recipe.name)
    flow = ReaderFlow(recipe, base, work)
    flow.check()
    with work.lock():
        flow.announce()
        story = {"teacher": flow.told(flow.teacher, f"{recipe.teacher.model}, {flow.taught}")}
        student, steps = flow.distil()
        reading = flow.reading(student)
        torch8 = flow.quantize(student, reading)
        fp32 = flow.optimise(flow.export(student, reading))
        int8 = flow.int8(fp32)
        checks = flow.verify(student, fp32, int8, reading)
        artifacts = {name: flow.publish(name, made, checks) for name, made in (("fp32", fp32), ("int8", int8))}
        story |= {name: flow.told(made, what) for name, (made, what) in steps.items()}
        if torch8:
            story["quantize"] = Told(torch8, "PyTorch dynamic int8, one scale a channel", reading)
        story["fp32"] = Told(artifacts["fp32"], "one ONNX graph, fused", reading)
        story["int8"] = Told(artifacts["int8"], "ONNX int8, one scale a channel; vocabulary one scale a row", reading)
        results = flow.measure(story) | {
            "command": command,
            "seconds": time.monotonic() - started,
            "verify": checks,
            "graphs": {"fp32": fp32.figures["operators"], "int8": int8.figures["operators"]},
        }
        write_json(work.folder / "results.json", results)
        write_reader_report(results, work.folder / "report.html")
    return results


@dataclass(frozen=True)
class ReaderFlow:
    """The stages of a reader's run, each with what it depends on."""

    recipe: ReaderRecipe
    base: Path
    work: Workspace

    @cached_property
    def source(self) -> Source:
        return self.recipe.teacher.find(self.base)

    @cached_property
    def sets(self) -> Sets:
        return self.recipe.questions.load(self.base, tune=self.recipe.reading.no_answer_threshold is None)

    @property
    def depth(self) -> int:
        folder = self.source.folder
        config = (folder / "config.json") if not is_encoder(folder) else None
        if config is None:
            from compressor.teacher import read_config

            return layers_stated(read_config(folder))
        return layers_stated(json.loads(config.read_text(encoding="utf-8")))

    def check(self) -> None:
        """Hold the settings against teacher and questions before any work."""
        if not self.recipe.distil:
            raise RecipeError("distil: no step; give at least one")
        check_steps(self.recipe.distil, self.depth)
        self.sets  # noqa: B018 - read for its errors

    def announce(self) -> None:
        """Say what goes in."""
        say(f"[bold]teacher[/]: {self.source.name} ({self.source.origin}), sha256 {self.source.weights_sha256}")
        train, test = self.sets.train, self.sets.test
        say(f"[bold]questions[/]: {self.sets.source}: {len(train):,} to train, {len(test):,} to judge by")

    def read_as(self, stage: C) -> C:
        """Give a stage the recipe's way of reading, but for what it states itself."""
        shared = {name: getattr(self.recipe.reading, name) for name in Reading.model_fields}
        return stage.model_copy(update={n: value for n, value in shared.items() if n not in stage.model_fields_set})

    @property
    def taught(self) -> str:
        """Say how the teacher came by its answers."""
        figures = self.teacher.figures
        if "learning_rate" not in figures:
            return "as it is"
        return f"fine-tuned at {figures['learning_rate']:g} for {figures['epochs']:g} epochs"

    @cached_property
    def teacher(self) -> Model:
        """Return the reader to compress, made of an encoder where need be."""
        stage = self.recipe.finetune
        if stage is None and not is_encoder(self.source.folder):
            return self.source
        stage = self.read_as(stage or Finetune())
        inputs: list[Keyed] = [self.source, self.sets.train]
        kept = self.work.checkpoints("teacher", stage, inputs)
        return self.work.stage("teacher", stage, inputs, lambda to: stage.run(
            self.source.folder, self.sets.train, kept, to))  # fmt: skip

    def distil(self) -> tuple[Model, dict[str, tuple[Model, str]]]:
        """Take the student through its steps; return it, and each step's student with what was taught."""
        made: dict[str, tuple[Model, str]] = {}
        student: Model | None = None
        for number, step in enumerate(self.recipe.distil, start=1):
            name = f"distil-{number}" if len(self.recipe.distil) > 1 else "distil"
            student = self.step(name, step, student)
            made[name] = student, step.title
        assert student is not None  # check: at least one step
        return student, made

    def step(self, name: str, step: Step, before: Model | None) -> Model:
        """Take the student one step on from ``before``, the first one from the teacher's layers."""
        step, asked = self.read_as(step), self._asked(step)
        inputs: list[Keyed] = [self.teacher, asked, *([before] if before else [])]
        kept = self.work.checkpoints(name, step, inputs)
        return self.work.stage(name, step, inputs, lambda to: step.run(
            self.teacher.folder, asked, kept, to, before.folder if before else None), step.title)  # fmt: skip

    def _asked(self, step: Step) -> Questions:
        if step.on == "augmented":
            return self.augmented
        return as_questions(self.recipe.texts.load(self.base).train) if step.on == "texts" else self.sets.train

    @cached_property
    def augmented(self) -> Questions:
        """Return the questions and their augmented copies."""
        stage, train = self.recipe.augment, self.sets.train
        made = self.work.stage("augment", stage, [self.source, train], lambda to: write_json(
            to.folder / "questions.json", stage.run(train, candidates_of(self.source.folder)).as_squad()))  # fmt: skip
        return read_squad(made.folder / "questions.json")

    def reading(self, reader: Model) -> Reading:
        """Return how ``reader`` reads: the recipe's way, with a threshold of its own where some answers are none."""
        stated, tune = self.recipe.reading, self.sets.tune
        if tune is None:
            return stated
        inputs: list[Keyed] = [reader, tune, Key(key_of(stated.model_dump(mode="json")))]
        stage, name = Threshold(), f"thresholds/{reader.folder.name}"
        made = self.work.stage(name, stage, inputs, lambda to: stage.run(reader.folder, stated, tune, to))
        return stated.model_copy(update=_read(made, "threshold.json"))

    def told(self, model: Model, what: str) -> Told:
        return Told(model, what, self.reading(model))

    def quantize(self, student: Model, reading: Reading) -> Model | None:
        """Make the PyTorch int8 form, where the recipe asks for it."""
        stage = self.recipe.quantize
        if stage is None:
            return None
        return self._made("quantize", stage, [student], reading, lambda to: stage.run(student.folder, reading, to))

    def export(self, student: Model, reading: Reading) -> Model:
        stage = self.recipe.export
        return self._made("export", stage, [student], reading, lambda to: stage.run(student.folder, reading, to))

    def _made(
        self, name: str, stage: Config, inputs: list[Keyed], reading: Reading, make: Callable[[Draft], None]
    ) -> Model:
        return self.work.stage(name, stage, [*inputs, Key(key_of(reading.model_dump(mode="json")))], make)

    def optimise(self, graph: Model) -> Model:
        stage = self.recipe.optimise
        return self.work.stage("optimise", stage, [graph], lambda to: stage.run(graph.folder, to))

    def int8(self, fp32: Model) -> Model:
        stage = self.recipe.int8
        return self.work.stage("int8", stage, [fp32], lambda to: stage.run(fp32.folder, to))

    def verify(self, student: Model, fp32: Model, int8: Model, reading: Reading) -> list[dict[str, Any]]:
        """Return the checks of both artifacts; GateError if one missed its bar."""
        stage, test = self.recipe.verify, self.sets.test
        its = self.reading(self.teacher)
        inputs: list[Keyed] = [student, fp32, int8, self.teacher, test]
        made = self._made("verify", stage, inputs, reading, lambda to: stage.run(
            fp32.folder, int8.folder, student.folder, self.teacher.folder, test, reading, its, to))  # fmt: skip
        checks: list[dict[str, Any]] = _read(made, "checks.json")
        gate(checks)
        return checks

    def publish(self, name: Any, made: Model, checks: list[dict[str, Any]]) -> Model:
        """Hand out what passed the gate."""
        stage = PublishReader(
            recipe=self.recipe.model_dump(mode="json"),
            teacher=self.source.name,
            teacher_sha256=self.source.weights_sha256,
            precision=name,
        )
        inputs: list[Keyed] = [made, Key(key_of(checks))]
        return self.work.stage(f"artifacts/{name}", stage, inputs, lambda to: stage.run(made, checks, to))

    def measure(self, stages: dict[str, Told]) -> dict[str, Any]:
        """Measure every stage's answers and the systems' speed; return the results."""
        recipe, tell, test, machine = self.recipe, ReaderStory(), self.sets.test, describe()
        inputs: list[Keyed] = [*(told.model for told in stages.values()), test]
        inputs.append(Key(key_of([told.reading.model_dump(mode="json") for told in stages.values()])))
        made = self.work.stage("story", tell, inputs, lambda to: tell.run(stages, test, to))
        story = _read(made, "story.json")
        systems = systems_of(stages, recipe.bench.threads)
        bench = _read(self.work.stage("bench", recipe.bench, [*inputs, Key(key_of(machine))], lambda to: (
            recipe.bench.run(systems, test, to))), "bench.json")  # fmt: skip
        return {
            "name": recipe.name,
            "task": recipe.task,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": recipe.model_dump(mode="json"),
            "environment": machine,
            "teacher": {
                "name": self.source.name,
                "source": self.source.origin,
                "weights_sha256": self.source.weights_sha256,
                "tries": self.teacher.figures.get("tries") or [],
            },
            "questions": self.sets.facts(),
            "story": story,
            "bench": bench | {"systems": with_answers(bench["systems"], story)},
        }


def _read(made: Model, name: str) -> Any:
    return json.loads((made.folder / name).read_text(encoding="utf-8"))
