"""The flow of a reader: teacher -> distil in steps -> quantize -> export -> optimise -> int8 -> verify -> bench."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from benchmarks.bench import ReaderBench
from benchmarks.quality.story import Answers, ReaderRow, StoryStage, words_of
from benchmarks.results import BenchFigures
from benchmarks.systems import Made, systems_of
from compressor.answering.questions.sets import QuestionSets, Sets
from compressor.answering.questions.squad import Questions, read_squad
from compressor.answering.questions.windows import Cutter
from compressor.answering.readers.base import depth_of, is_encoder, tokenizer_of
from compressor.answering.readers.reader import Reading
from compressor.answering.readers.silence import Threshold
from compressor.answering.readers.source import ReaderTeacher
from compressor.answering.readers.torch_int8 import ReaderTorchInt8
from compressor.answering.training.augment import Augment, candidates_of
from compressor.answering.training.finetune import Finetune
from compressor.answering.training.steps import Step, as_questions, check_steps
from compressor.artifact.cases import Precision
from compressor.artifact.folder import key_of, write_json
from compressor.artifact.workspace import Key, Keyed, Model
from compressor.core.config import Config
from compressor.core.errors import RecipeError
from compressor.flow.base import Flow
from compressor.flow.checks import check_judged
from compressor.flow.results import Measured
from compressor.models.source import Source
from compressor.texts.corpus import Texts
from exporters.graph.export_reader import ReaderExport
from exporters.graph.optimise import Optimise
from exporters.precision.calibrate import Batch
from exporters.precision.int8 import OnnxInt8
from exporters.publish.card import PublishReader
from exporters.reader import batches_of_questions
from exporters.tasks import task_named
from exporters.verify.check import Check
from exporters.verify.reader import ReaderVerify

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


@dataclass(frozen=True)
class ReaderFlow(Flow):
    """The stages of a reader's run, each with what it depends on."""

    recipe: ReaderRecipe
    readings: dict[str, Reading] = field(default_factory=dict, init=False, repr=False, compare=False)
    """How each reader reads, by its key, once that is found."""

    @cached_property
    def source(self) -> Source:
        return self.recipe.teacher.find(self.base)

    @cached_property
    def sets(self) -> Sets:
        return self.recipe.questions.load(self.base, tune=self.recipe.reading.no_answer_threshold is None)

    @cached_property
    def plain(self) -> Questions:
        """Return the plain texts, as contexts that nothing is asked about."""
        return as_questions(self.recipe.texts.load(self.base).train)

    def check(self) -> None:
        """Hold the settings against teacher, questions and texts before any work."""
        self.recipe.bench.check_providers()
        check_judged(self.recipe.bench, self.recipe.verify)
        if not self.recipe.distil:
            raise RecipeError("distil: no step; give at least one")
        check_steps(self.recipe.distil, depth_of(self.source.folder))
        self._check_questions()
        if any(step.on == "texts" for step in self.recipe.distil):
            self.plain  # noqa: B018 - read for its errors

    def _check_questions(self) -> None:
        """Hold the questions against every way in which they will be read."""
        tokenizer, sets = tokenizer_of(self.source.folder).backend_tokenizer, self.sets
        readings = [self.recipe.reading, *map(self.read_as, (self.recipe.finetune or Finetune(), *self.recipe.distil))]
        distinct = {key_of(reading.max_length, reading.stride, reading.max_question): reading for reading in readings}
        for reading in distinct.values():
            Cutter(tokenizer, reading).check([*sets.train, *sets.test, *(sets.tune or [])])

    def data(self) -> tuple[str, str]:
        sets = self.sets
        return "questions", f"{sets.source}: {len(sets.train):,} to train, {len(sets.test):,} to judge by"

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
        inputs: list[Keyed] = [self.source, self.sets.train, *self._tune]
        kept = self.work.checkpoints("teacher", stage, inputs)
        return self.work.stage("teacher", stage, inputs, lambda to: stage.run(
            self.source.folder, self.sets.train, kept, to, self.sets.tune))  # fmt: skip

    def teacher_facts(self) -> dict[str, Any]:
        return {"tries": self.teacher.figures.get("tries") or []}

    def make_student(self) -> dict[str, Model]:
        return {name: made for name, made, _ in self.students(self.names, self.recipe.distil)}

    @property
    def names(self) -> list[str]:
        """Name the stages of the recipe's steps."""
        count = len(self.recipe.distil)
        return [f"distil-{number}" for number in range(1, count + 1)] if count > 1 else ["distil"]

    def students(self, names: Sequence[str], steps: Sequence[Step]) -> Iterator[tuple[str, Model, Step]]:
        """Yield the student after each of the steps, which are stages of these names."""
        student: Model | None = None
        for name, step in zip(names, steps, strict=True):
            student = self.step(name, step, student)
            yield name, student, step

    def step(self, name: str, step: Step, before: Model | None) -> Model:
        """Take the student one step on from ``before``, the first one from the teacher's layers."""
        step, asked = self.read_as(step), self._asked(step)
        inputs: list[Keyed] = [self.teacher, asked, *self._tune, *([before] if before else [])]
        kept = self.work.checkpoints(name, step, inputs)
        own = before.folder if before else None
        return self.work.stage(name, step, inputs, lambda to: step.run(
            self.teacher.folder, asked, kept, to, own, self.sets.tune), step.title)  # fmt: skip

    @property
    def _tune(self) -> list[Keyed]:
        return [self.sets.tune] if self.sets.tune else []

    def _asked(self, step: Step) -> Questions:
        if step.on == "augmented":
            return self.augmented
        return self.plain if step.on == "texts" else self.sets.train

    @cached_property
    def augmented(self) -> Questions:
        """Return the questions and their augmented copies."""
        stage, train = self.recipe.augment, self.sets.train
        made = self.work.stage("augment", stage, [self.source, train], lambda to: write_json(
            to.folder / "questions.json", stage.run(train, candidates_of(self.source.folder)).as_squad()))  # fmt: skip
        return read_squad(made.folder / "questions.json")

    def reading(self, reader: Model) -> Reading:
        """Return how ``reader`` reads: the recipe's way, with a threshold of its own where some answers are none."""
        tune = self.sets.tune
        if tune is None:
            return self.recipe.reading
        if reader.key not in self.readings:
            self.readings[reader.key] = self._with_threshold(reader, tune)
        return self.readings[reader.key]

    def _with_threshold(self, reader: Model, tune: Questions) -> Reading:
        stated, stage, name = self.recipe.reading, Threshold(), f"thresholds/{reader.folder.name}"
        made = self.work.stage(name, stage, [reader, tune, stated], lambda to: (
            stage.run(reader.folder, stated, tune, to)))  # fmt: skip
        return stated.model_copy(update=made.json("threshold.json"))

    def quantize(self, student: Model) -> Model | None:
        stage, reading = self.recipe.quantize, self.reading(student)
        if stage is None:
            return None
        return self.work.stage("quantize", stage, [student, reading], lambda to: stage.run(student.folder, reading, to))

    def export(self, student: Model) -> Model:
        stage, reading = self.recipe.export, self.reading(student)
        return self.work.stage("export", stage, [student, reading], lambda to: stage.run(student.folder, reading, to))

    def sample(self, fp32: Path, count: int) -> tuple[Keyed, Callable[[], Iterable[Batch]]]:
        """Return questions that the student was trained on, chosen at random."""
        return self.sets.train, lambda: batches_of_questions(fp32, self.sets.train, count)

    def story_stage(self, model: Model, what: str) -> StoryStage:
        return StoryStage(model, what, self.reading(model))

    def answers(self, name: str, reader: StoryStage) -> ReaderRow:
        """Return a reader's row of the story: its answers to the questions to be judged by, and its size."""
        stage, test = Answers(), self.sets.test
        made = self.work.stage(f"answers/{name}", stage, [reader.model, reader.reading, test], lambda to: (
            stage.run(reader, test, to)))  # fmt: skip
        figures = made.json("answers.json")
        return {
            "stage": name,
            "what": reader.what,
            "seconds": reader.model.figures.get("seconds"),
            "parameters": figures["parameters"],
            "size_bytes": figures["size_bytes"],
            "answers": figures["answers"],
        }

    def examine(self, student: Model, fp32: Model, int8: Model) -> Model:
        stage, test, reading = self.recipe.verify, self.sets.test, self.reading(student)
        teacher = self.answers("teacher", self.story_stage(self.teacher, ""))["answers"]["f1"]
        inputs: list[Keyed] = [student, fp32, int8, test, reading, Key(key_of(teacher))]
        return self.work.stage("verify", stage, inputs, lambda to: stage.run(
            fp32.folder, int8.folder, student.folder, teacher, test, reading, to))  # fmt: skip

    def hand_out(self, student: Model, fp32: Model, int8: Model, checks: Sequence[Check]) -> dict[str, Model]:
        return {"fp32": self.publish("fp32", fp32, checks), "int8": self.publish("int8", int8, checks)}

    def publish(self, name: Precision, made: Model, checks: Sequence[Check]) -> Model:
        """Hand out one artifact, of precision ``name``."""
        stage = PublishReader(**self.provenance(), precision=name)
        inputs: list[Keyed] = [made, Key(key_of([check.as_dict() for check in checks]))]
        return self.work.stage(f"artifacts/{name}", stage, inputs, lambda to: stage.run(made, checks, to))

    def story_stages(self, stages: Mapping[str, Model]) -> dict[str, StoryStage]:
        """Return each stage with what it did; what is made of the finished student reads as that does."""
        titles = {name: step.title for name, step in zip(self.names, self.recipe.distil, strict=True)}
        titles["teacher"] = f"{self.recipe.teacher.model}, {self.taught}"
        student = stages[self.names[-1]]
        return {
            name: StoryStage(model, words_of(name, model, titles), self.reading(model if name in titles else student))
            for name, model in stages.items()
        }

    def measure(self, stages: dict[str, Model]) -> Measured:
        bench, test, machine, readers = self.recipe.bench, self.sets.test, self.machine, self.story_stages(stages)
        story = [self.answers(name, reader) for name, reader in readers.items()]
        made_by = {name: Made(own.model.folder, own.reading.model_dump_json()) for name, own in readers.items()}
        systems = systems_of(made_by, task_named(self.recipe.task), bench.providers, bench.threads)
        inputs: list[Keyed] = [
            *(reader.model for reader in readers.values()),
            *(reader.reading for reader in readers.values()),
        ]
        made = self.work.stage("bench", bench, [*inputs, test, Key(key_of(machine))], lambda to: (
            bench.run(systems, bench.pick(test), self.sets.source, to)))  # fmt: skip
        found = BenchFigures.read(made.json("bench.json")).with_story(story)
        return Measured("questions", self.sets.facts(), story, found.as_dict())
