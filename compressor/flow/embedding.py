"""The flow of an encoder: teacher -> distil -> pca -> quantize -> export -> optimise -> int8 -> verify -> bench."""

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from benchmarks.bench import Bench
from benchmarks.quality.languages import Languages, read_tests
from benchmarks.quality.story import EncoderRow, Story
from benchmarks.quality.sts import Sts
from benchmarks.results import BenchFigures
from benchmarks.systems import Made, systems_of
from compressor.artifact.cases import Precision
from compressor.artifact.folder import Draft, key_of, writing
from compressor.artifact.prompts import Prompts
from compressor.artifact.workspace import Key, Keyed, Model, stage_key
from compressor.core.config import Config
from compressor.core.errors import RecipeError
from compressor.distil.language.multilingual import Multilingual, Translations
from compressor.distil.training.embedding import Distil
from compressor.distil.training.lengths import Lengths
from compressor.distil.training.together import check_together
from compressor.flow.base import Flow
from compressor.flow.checks import check, trained_on
from compressor.flow.results import Measured
from compressor.models.agreement import Heldout
from compressor.models.projection import Projection
from compressor.models.source import Source, Teacher
from compressor.models.teacher_vectors import dev_of, heldout_of, made_by, training_precision, training_vectors
from compressor.models.teaching import Asked
from compressor.models.torch_int8 import TorchInt8
from compressor.texts.collections import Collection
from compressor.texts.corpus import Corpus
from compressor.texts.roles import Queries, RoleTexts
from compressor.vectors.index import Index, open_index
from compressor.vectors.pca import Pca
from compressor.vectors.ranges import OutputVectors
from compressor.vectors.retrieval import Searches
from exporters.graph.export import Export
from exporters.graph.optimise import Optimise
from exporters.precision.calibrate import Batch, batches_of_texts
from exporters.precision.fp16 import Half
from exporters.precision.int8 import OnnxInt8
from exporters.publish.card import Publish
from exporters.search.embedding import Search
from exporters.tasks import task_named
from exporters.verify.check import Check
from exporters.verify.embedding import Verify


class Recipe(Config):
    """One recipe, one shipped model. The steps distil, multilingual, pca, quantize, fp16 and search run only where
    their section stands."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the run's folder; by default the recipe file's."""
    task: Literal["sentence-embedding"] = "sentence-embedding"
    """What the model is for; a recipe for question-answering has sections of its own."""
    teacher: Teacher = Teacher()
    texts: RoleTexts = RoleTexts()
    queries: Queries | None = None
    distil: Distil | None = None
    multilingual: Multilingual | None = None
    pca: Pca | None = None
    quantize: TorchInt8 | None = None
    export: Export = Export()
    ranges: OutputVectors = OutputVectors()
    optimise: Optimise = Optimise()
    fp16: Half | None = None
    int8: OnnxInt8 = OnnxInt8()
    search: Search | None = None
    verify: Verify = Verify()
    bench: Bench = Bench()


@dataclass(frozen=True)
class EmbeddingFlow(Flow):
    """The stages of an encoder's run, each with what it depends on."""

    recipe: Recipe
    shared = True

    @cached_property
    def source(self) -> Source:
        return self.recipe.teacher.find(self.base)

    @property
    def teacher(self) -> Source:
        return self.source

    @cached_property
    def corpus(self) -> Corpus:
        prompts = Prompts.load(self.teacher.folder)
        return self.recipe.texts.load_roles(self.base, prompts, self.recipe.queries)

    def data(self) -> tuple[str, str]:
        return "texts", f"{self.corpus.source}: {self.corpus.parts()}"

    def check(self) -> None:
        """Hold the settings against teacher, texts and machine before any work."""
        check(self)

    def speed_texts(self, search: Search) -> list[str]:
        """Return the texts that forms are timed on, without any that the benchmark is then timed on."""
        if search.speed_texts is None:
            return self.corpus.dev
        timed = self.recipe.bench.pick_texts(self.base, self.corpus.heldout)[1]
        reported = {*timed, *self.corpus.bare(timed)}
        texts = [text for text in Sts.read(self.base / search.speed_texts).texts if text not in reported]
        if len(texts) < search.count // 2:
            raise RecipeError(
                f"search.speed_texts = {search.speed_texts}: {len(texts)} texts that are not bench.speed_texts'; "
                f"at least {search.count // 2} are needed: a form is chosen on other texts than it is reported on"
            )
        return texts

    @cached_property
    def heldout(self) -> Heldout:
        """What is reported is measured on."""
        return heldout_of(self.teacher, self.corpus)

    @cached_property
    def dev(self) -> Heldout:
        """What settings are chosen by."""
        return dev_of(self.teacher, self.corpus)

    @cached_property
    def collections(self) -> list[Collection]:
        """What is searched."""
        return self.recipe.bench.collections(self.base)

    @cached_property
    def index(self) -> Model:
        """The teacher's vectors of what is searched, and what it finds."""
        stage, names = Index(), Key(key_of([own.name for own in self.collections]))  # what is found is kept by name
        return self.work.stage("index", stage, [self.teacher, *self.collections, names], lambda to: stage.run(
            self.teacher.folder, self.collections, to))  # fmt: skip

    @cached_property
    def searches(self) -> Searches:
        """What others are held against: what the teacher finds, and its index; none without collections."""
        return open_index(self.index.folder, self.collections) if self.collections else Searches()

    @property
    def judged(self) -> list[Keyed]:
        """What the held-out texts and the teacher's vectors of them depend on."""
        return [self.teacher, self.corpus, made_by("fp32")]

    def make_student(self) -> dict[str, Model]:
        distilled = self.distil()
        reduced = self.pca(distilled)
        made = {"distil": distilled} if self.recipe.distil else {}
        return made | ({"pca": reduced} if self.recipe.pca else {})

    def distil(self) -> Model:
        """Train the student; without the section, the teacher goes on as it is."""
        return self._distilled

    @cached_property
    def _distilled(self) -> Model:
        stage = self.recipe.distil
        if stage is None:
            return self.teacher
        kept = self._meet(stage)
        return self.work.stage("distil", stage, self._learnt, lambda to: self._train(stage, kept, to))

    def _meet(self, stage: Distil) -> Path:
        """Return the folder of the training's checkpoints, once all processes are found to go on from the same."""
        kept = self.work.checkpoints("distil", stage, self._learnt)
        check_together(self.teacher, self.corpus, stage_key("distil", stage, self._learnt), kept)
        return kept

    @cached_property
    def other(self) -> Source | None:
        """The student of another make that the recipe names."""
        return self.recipe.distil.find(self.base) if self.recipe.distil else None

    @property
    def _learnt(self) -> list[Keyed]:
        """What a student's training depends on, beside its settings."""
        vectors = made_by("fp32", training_precision())
        return [self.teacher, self.corpus, vectors, *(given for given in (self.translations, self.other) if given)]

    def _train(self, stage: Distil, kept: Path, to: Draft) -> None:
        vectors, more, translations = training_vectors(self.teacher, self.corpus), [], self.translations
        if translations:
            more = translations.parts(self.teacher, self.corpus, vectors)
        stage.run(
            self.teacher.folder,
            self.corpus.train,
            vectors,
            kept,
            to,
            dev=self.dev if stage.patience else None,
            prepare=translations.prepare if translations else None,
            more=more,
            share=translations.config.first_language if translations else None,
            other=self.other.folder if self.other else None,
        )

    def asked(self) -> list[Asked]:
        """Return the texts whose vectors a run asks its teacher for."""
        corpus, learnt = self.corpus, training_precision()
        asked = [Asked(corpus.heldout, "fp32"), Asked(corpus.dev, "fp32")]
        if self.recipe.distil:
            asked.insert(0, Asked(corpus.train, learnt))
        if translations := self.translations:
            asked.append(Asked(_sources(translations, corpus), learnt))
        return asked

    def follow(self) -> None:
        """Take part in the training of the first process, which writes and measures the student."""
        stage = self.recipe.distil
        if stage is None:
            return
        self.check()
        self.announce()
        kept = self._meet(stage)
        if self.work.is_made("distil", stage, self._learnt):
            return
        with tempfile.TemporaryDirectory() as folder, writing(Path(folder) / "distil", "distil", "", {}) as draft:
            self._train(stage, kept, draft)

    @cached_property
    def translations(self) -> Translations | None:
        stage = self.recipe.multilingual
        return Translations(stage, self.base) if stage else None

    def own_results(self, stages: dict[str, Model]) -> dict[str, Any]:
        return {"languages": self.languages(stages)}

    def languages(self, stages: Mapping[str, Model]) -> Any:
        """Measure a multilingual student in both languages; None for any other."""
        translations = self.translations
        if translations is None:
            return None
        models = {name: stages[name] for name in ("teacher", "distil", "int8") if name in stages}
        folders = {name: made.folder for name, made in models.items()}
        sets, sts = read_tests(translations)
        stage, inputs = Languages(), cast(list[Keyed], [*models.values(), translations, *(p for _, p in sets), *sts])
        made = self.work.stage("languages", stage, inputs, lambda to: stage.run(folders, translations, to))
        return made.json("languages.json")

    def pca(self, student: Model) -> Model:
        """Reduce the student's vectors; without the section, they stay as long as they are."""
        stage = self.recipe.pca
        if stage is None:
            return student
        return self.work.stage("pca", stage, [student, *self.judged], lambda to: stage.run(
            student.folder, self.corpus.train, self.dev, to))  # fmt: skip

    def quantize(self, student: Model) -> Model | None:
        stage = self.recipe.quantize
        if stage is None:
            return None
        return self.work.stage("quantize", stage, [student], lambda to: stage.run(student.folder, to))

    def export(self, student: Model) -> Model:
        stage = self.recipe.export
        return self.work.stage("export", stage, [student], lambda to: stage.run(student.folder, to))

    def search(self, fp32: Model) -> Model | None:
        """Search the fastest int8 form on this CPU, where the recipe asks for it; it then is the int8 artifact."""
        stage, int8 = self.recipe.search, self.recipe.int8
        if stage is None:
            return None
        timed = self.speed_texts(stage)
        inputs: list[Keyed] = [fp32, self.corpus, Key(key_of(int8.model_dump(mode="json"), timed))]
        kept = self.work.checkpoints("search", stage, inputs)
        return self.work.stage("search", stage, inputs, lambda to: stage.run(
            fp32.folder, int8, self.corpus.train, self.corpus.dev, kept, to, timed))  # fmt: skip

    def half(self, student: Model, fp32: Model, ranges: Model) -> Model | None:
        """Make and hand out the fp16 form for CUDA, where the recipe asks for it."""
        stage = self.recipe.fp16
        if stage is None:
            return None
        made = self.work.stage("fp16", stage, [fp32], lambda to: stage.run(fp32.folder, to))
        return self.publish("fp16", made, ranges, [Check.read(row) for row in made.figures["checks"]], student)

    def sample(self, fp32: Path, count: int) -> tuple[Keyed, Callable[[], Iterable[Batch]]]:
        """Return the first texts that the student was trained on."""
        return self.corpus, lambda: batches_of_texts(fp32, self.corpus.train[:count])

    def examine(self, student: Model, fp32: Model, int8: Model) -> Model:
        stage = self.recipe.verify
        searched = stage.retrieval_share is not None
        inputs: list[Keyed] = [student, fp32, int8, *self.judged, *([self.index] if searched else [])]
        return self.work.stage("verify", stage, inputs, lambda to: stage.run(
            fp32.folder, int8.folder, student.folder, self.heldout, to,
            self.searches if searched else None))  # fmt: skip

    def ranges(self, student: Model) -> Model:
        """Fit the ranges of int8 output vectors."""
        stage = self.recipe.ranges
        return self.work.stage("ranges", stage, [student, *self.judged], lambda to: stage.run(
            student.folder, self.corpus.train, self.heldout, to))  # fmt: skip

    def hand_out(self, student: Model, fp32: Model, int8: Model, checks: Sequence[Check]) -> dict[str, Model]:
        ranges = self.ranges(student)
        made = {"fp32": self.publish("fp32", fp32, ranges, checks, student)}
        if half := self.half(student, fp32, ranges):
            made["fp16"] = half
        return made | {"int8": self.publish("int8", int8, ranges, checks, student)}

    def publish(self, name: Precision, made: Model, ranges: Model, checks: Sequence[Check], student: Model) -> Model:
        """Hand out one artifact, of precision ``name``, that was made of ``student``."""
        # What a teacher's own folder may have is a map from its teacher's space.
        projection = None if student.folder == self.teacher.folder else Projection.load(student.folder)
        lengths = self.distil().figures.get("lengths")
        trained_on = Lengths.read(lengths).line if lengths else None
        stage = Publish(**self.provenance(), precision=name, trained_on=trained_on)
        judged = Key(key_of([check.as_dict() for check in checks]))
        return self.work.stage(f"artifacts/{name}", stage, [made, ranges, judged], lambda to: stage.run(
            made, ranges, checks, to, projection))  # fmt: skip

    def facts(self) -> dict[str, Any]:
        """Return what the texts are, and how much of each collection is among those to train on."""
        return self.corpus.facts() | trained_on(self.collections, self.corpus)

    def story(self, stages: Mapping[str, Model], name: str = "story") -> list[EncoderRow]:
        """Measure quality and size of ``stages``, as a stage of its own, ``name``."""
        tell, sts = Story(), self.recipe.bench.check(self.base)
        searched: list[Keyed] = [self.index] if self.collections else []
        inputs: list[Keyed] = [*stages.values(), *self.judged, *sts, *searched]
        made = self.work.stage(name, tell, inputs, lambda to: tell.run(stages, self.heldout, sts, to, self.searches))
        rows: list[EncoderRow] = made.json("story.json")
        return rows

    def measure(self, stages: dict[str, Model]) -> Measured:
        recipe, rows = self.recipe, self.story(stages)
        source, texts = recipe.bench.pick_texts(self.base, self.corpus.heldout)
        machine, made = self.machine, {name: Made(model.folder) for name, model in stages.items()}
        systems = systems_of(made, task_named(recipe.task), recipe.bench.providers, recipe.bench.threads)
        inputs: list[Keyed] = [*stages.values(), *self.judged, *recipe.bench.check(self.base)]
        bench = self.work.stage("bench", recipe.bench, [*inputs, Key(key_of(texts, machine))], lambda to: (
            recipe.bench.run(systems, texts, source, to)))  # fmt: skip
        found = BenchFigures.read(bench.json("bench.json")).with_story(rows)
        return Measured("texts", self.facts(), rows, found.as_dict())


def _sources(translations: Translations, corpus: Corpus) -> list[str]:
    """Return the texts whose vectors the translations are learnt from, as ``Translations.parts`` asks for them."""
    pairs = translations.pairs[0].without(corpus.kept_out())
    return list(dict.fromkeys(pairs.sources))
