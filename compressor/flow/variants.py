"""Students of one recipe, made one by one and measured in one run beside the teacher."""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.quality.sts import Sts
from benchmarks.report.numbers import count
from benchmarks.results import BenchFigures
from benchmarks.systems import System
from benchmarks.tradeoff import chart, size_chart
from benchmarks.tradeoff.measure import Candidate, SideBySide
from benchmarks.tradeoff.table import FORMAT, PASSED, is_of_sizes, measure_of, page, with_share
from compressor.artifact.cases import Precision
from compressor.artifact.folder import (
    Artifact,
    claim,
    is_artifact,
    key_of,
    read_manifest,
    whole_bytes,
    write_json,
)
from compressor.artifact.workspace import Key, Keyed, Model, Workspace
from compressor.core.errors import ArtifactError, GateError, RecipeError, storage
from compressor.core.files import replace_text
from compressor.core.progress import say
from compressor.core.strict_json import JsonObject
from compressor.flow.branch import Branch
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.flow.results import TeacherFacts
from compressor.machine.describe import describe
from compressor.machine.processes import alone
from compressor.models.projection import Projection
from compressor.models.source import layers_stated, read_config
from exporters.runtime.providers import CPU
from exporters.verify.check import Check
from exporters.verify.check import gate as gate_of

LEFT_OUT: JsonObject = {"quantize": None, "fp16": None, "search": None}
"""Sections of a recipe that its variants are made without."""


@dataclass(frozen=True)
class Limit:
    """Bytes that an artifact may take as the folder that is handed out."""

    size: str
    """As it was stated."""
    bytes: float
    precision: Precision
    """The artifact that it is held against."""


@dataclass(frozen=True)
class Variant:
    """One of the models that are made side by side."""

    name: str
    """Of its folder, and with a precision behind it of its artifacts."""
    label: str
    recipe: Recipe
    facts: JsonObject
    """What its rows say of it."""
    precisions: tuple[Precision, ...]
    """The artifacts that are measured and handed out."""
    limit: Limit | None = None
    beside: bool = False
    """Whether it stands there to compare with, and was not asked for."""


@dataclass(frozen=True)
class Student:
    """A variant that was made: its artifacts, and what the gate said of them."""

    variant: Variant
    artifacts: dict[Precision, Model]
    projection: Projection | None
    checks: list[Check]
    gate: str
    kept: list[int] | None
    train_seconds: float | None
    taken: dict[Precision, int]
    """Bytes of the whole folders that were published; none where a bar was missed before."""

    def name(self, precision: Precision) -> str:
        """Name one of the artifacts among all."""
        return f"{self.variant.name}-{precision}"

    def candidate(self, precision: Precision, threads: int | None) -> Candidate:
        """Return the system that one of the artifacts is measured as."""
        label, folder = f"{self.variant.label}, ONNX {precision}", str(self.artifacts[precision].folder)
        return Candidate(System(self.name(precision), label, "onnx", folder, CPU, threads), self.projection)

    def measured(self, precision: Precision) -> list[JsonObject]:
        """Return the checks of one of the artifacts, under its name among all."""
        own = {"artifact": self.name(precision)}
        return [check.as_dict() | own for check in self.checks if check.artifact == precision]

    def facts(self, precision: Precision) -> JsonObject:
        """Return what a row of the table has besides its measurements."""
        own = f"artifacts/{self.name(precision)}" if self.gate == PASSED else None
        made = {
            "kept": self.kept,
            "precision": precision,
            "train_seconds": self.train_seconds,
            "gate": self.gate,
            "artifact": own,
            "size_bytes": self.taken.get(precision),
        }
        return self.variant.facts | made


@dataclass(frozen=True)
class Comparison:
    """Variants of one recipe side by side: what they are made of, and where they are shown."""

    trunk: EmbeddingFlow
    command: str
    stated: JsonObject = field(default_factory=dict)
    """What the results say of how the variants differ."""

    def run(self, plan: Callable[[EmbeddingFlow, int], Sequence[Variant]]) -> JsonObject:
        """Make what is planned of the teacher and its layers, the largest first, and return the results.

        Writes ``tradeoff.json``, ``.md``, ``.svg`` and the artifacts into the workspace; GateError if none of what
        was asked for passed.
        """
        alone("a trade-off is made")
        started, trunk = time.monotonic(), self.trunk
        sts, folder = _check(trunk), trunk.work.folder
        with trunk.work.lock():
            depth = layers_stated(read_config(trunk.teacher.folder))
            students = _make(trunk, plan(trunk, depth))
            results = self._measured(students, depth, sts)
            results |= {"command": self.command, "seconds": time.monotonic() - started}
            _hand_out(folder / "artifacts", students)
            write_json(folder / "tradeoff.json", results)
            replace_text(folder / "tradeoff.md", page(results))
            drawn = size_chart if is_of_sizes(results) else chart
            replace_text(folder / "tradeoff.svg", drawn.picture(results))
        if not any(student.gate == PASSED for student in students if not student.variant.beside):
            line = "no student passed, none is handed out; tradeoff.md has the figures they missed"
            raise GateError(f"{folder}: {line}")
        return results

    def _measured(self, students: Sequence[Student], depth: int, sts: Sequence[Sts]) -> JsonObject:
        """Measure all in one run and return the results, the teacher's row first, then in the order of the plan."""
        trunk, pairs = self.trunk, [(one, precision) for one in students for precision in one.variant.precisions]
        bench = _benchmark(trunk, pairs, sts).as_dict()
        rows = {row["name"]: row for row in bench["systems"]}
        teacher = rows["teacher"] | {"layers": depth, "precision": None, "train_seconds": None, "gate": None}
        own = [rows[one.name(precision)] | one.facts(precision) for one, precision in pairs]
        measure = measure_of([teacher, *own])
        return {
            "format": FORMAT,
            "name": trunk.recipe.name,
            **self.stated,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": trunk.recipe.model_dump(mode="json"),
            "environment": describe(),
            "teacher": TeacherFacts(trunk.teacher.name, trunk.teacher.origin, trunk.teacher.weights_sha256).as_dict(),
            "texts": trunk.facts(),
            "sts": [{"name": file.name, "pairs": len(file.scores), "key": file.key} for file in sts],
            "measure": measure,
            "verify": [check for one, precision in pairs for check in one.measured(precision)],
            "bench": bench | {"systems": with_share([teacher, *own], measure)},
        }


def _check(trunk: EmbeddingFlow) -> list[Sts]:
    bench = trunk.recipe.bench
    if bench.providers != (CPU,):
        allowed = f'a trade-off is measured on ["{CPU}"]'
        raise RecipeError(f"bench.providers = {json.dumps(bench.providers)}: {allowed}")
    bench.collections(trunk.base)
    return bench.check(trunk.base)


def _make(trunk: EmbeddingFlow, variants: Sequence[Variant]) -> list[Student]:
    """Walk the flow of every variant, each in a folder of its own, all checked before the first."""
    flows = [Branch(one.recipe, trunk.base, Workspace(trunk.work.folder / one.name), trunk) for one in variants]
    for flow in flows:
        flow.check()
    flows[-1].announce()
    if stated := [name for name in LEFT_OUT if getattr(trunk.recipe, name) is not None]:
        say(("left out", "yellow"), f": {', '.join(stated)}; fp32 and int8 alone are made, as their sections say")
    students = []
    for number, (variant, flow) in enumerate(zip(variants, flows, strict=True), start=1):
        say((variant.label, "bold"), f" ({number} of {len(flows)})")
        students.append(_student(flow, variant))
    return students


def _student(flow: EmbeddingFlow, variant: Variant) -> Student:
    """Make one student and hold it to the recipe's bars; what misses one keeps its unpublished artifacts."""
    student = flow.distil()
    reduced = flow.pca(student)
    fp32 = flow.optimise(flow.export(reduced))
    made: dict[Precision, Model] = {"fp32": fp32, "int8": flow.int8(fp32)}
    taken: dict[Precision, int] = {}
    checks = flow.checks(reduced, fp32, made["int8"])
    gate = PASSED
    try:
        gate_of(checks)
        ranges = flow.ranges(reduced)
        made = {name: flow.publish(name, made[name], ranges, checks, reduced) for name in variant.precisions}
        taken = {name: whole_bytes(one.folder) for name, one in made.items()}
        _check_bytes(variant.limit, taken)
    except GateError as miss:
        say(("gate missed", "yellow"), f": {miss}")
        gate = f"missed: {miss}"
    figures = student.figures
    trained = figures.get("train_seconds", figures.get("seconds"))
    projection, kept = Projection.load(reduced.folder), figures.get("layers")
    return Student(variant, made, projection, checks, gate, kept, trained, taken)


def _check_bytes(limit: Limit | None, taken: dict[Precision, int]) -> None:
    if limit is not None and (own := taken[limit.precision]) > limit.bytes:
        raise GateError(f"--sizes {limit.size}: the artifact takes {count(own)} of {count(limit.bytes)} bytes")


def _benchmark(trunk: EmbeddingFlow, pairs: Sequence[tuple[Student, Precision]], sts: Sequence[Sts]) -> BenchFigures:
    stage = SideBySide(bench=trunk.recipe.bench.model_copy(update={"lengths": ()}))
    teacher = System("teacher", "teacher, PyTorch fp32 encode", "torch", str(trunk.teacher.folder), "PyTorch CPU",
                     stage.bench.threads)  # fmt: skip
    # The first last: its tokenizer, which has the whole vocabulary, counts the texts' tokens.
    own = [student.candidate(precision, stage.bench.threads) for student, precision in reversed(pairs)]
    source, texts = stage.bench.pick_texts(trunk.base, trunk.corpus.heldout)
    models = [student.artifacts[precision] for student, precision in pairs]
    searched: list[Keyed] = [trunk.index] if trunk.collections else []
    # The same models stand under other names where they were made for other sizes.
    named = [(one.system.name, one.system.label) for one in own]
    inputs: list[Keyed] = [*trunk.judged, *models, *sts, *searched, Key(key_of(texts, describe(), named))]
    made = trunk.work.stage("bench", stage, inputs, lambda to: stage.run(
        [Candidate(teacher), *own], trunk.heldout, sts, (source, texts), to, trunk.searches))  # fmt: skip
    return BenchFigures.read(made.json("bench.json"))


def _hand_out(folder: Path, students: Iterable[Student]) -> None:
    """Bring ``folder`` to hold the artifacts of the table and no others of an earlier one."""
    wanted = {
        student.name(precision): student.artifacts[precision]
        for student in students
        if student.gate == PASSED
        for precision in student.variant.precisions
    }
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*-*"):
            if old.name not in wanted and is_artifact(old):
                shutil.rmtree(old)
        for name, made in wanted.items():
            if not _is_copy(folder / name, made):
                _copy(made, folder / name)


def copy_stages(branch: Path, folder: Path) -> None:
    """Copy the stages of one student's branch into a run's folder, where its flow then finds them made."""
    for stage in sorted(branch.iterdir()):
        if is_artifact(stage):
            made = Model(stage, "")
            if not _is_copy(folder / stage.name, made):
                _copy(made, folder / stage.name)


def _is_copy(folder: Path, made: Model) -> bool:
    try:
        return is_artifact(folder) and Artifact.open(folder).manifest == read_manifest(made.folder)
    except ArtifactError:  # damaged
        return False


def _copy(made: Model, to: Path) -> None:
    """Copy an artifact, manifest and all, in one rename; the folder is this run's alone, by its lock."""
    claim(to)
    partial, old = to.with_name(f".{to.name}.partial"), to.with_name(f".{to.name}.old")
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(made.folder, partial)
    if to.exists():
        os.rename(to, old)
    os.rename(partial, to)
    shutil.rmtree(old, ignore_errors=True)
