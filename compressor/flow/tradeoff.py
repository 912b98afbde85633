"""The trade-off of depth: the recipe's model at every count of layers, made one by one and measured in one run."""

import json
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.quality.sts import Sts
from benchmarks.results import BenchFigures
from benchmarks.systems import System
from benchmarks.tradeoff.chart import picture
from benchmarks.tradeoff.measure import Candidate, SideBySide
from benchmarks.tradeoff.table import FORMAT, PASSED, label_of, measure_of, name_of, page, with_share
from compressor.artifact.cases import Precision
from compressor.artifact.folder import Artifact, claim, is_artifact, key_of, read_manifest, write_json
from compressor.artifact.workspace import Key, Keyed, Model, Workspace
from compressor.core.errors import ArtifactError, GateError, RecipeError, storage
from compressor.core.files import replace_text
from compressor.core.progress import say
from compressor.distil.training.embedding import Distil
from compressor.flow.branch import Branch
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.flow.results import TeacherFacts
from compressor.machine.describe import describe
from compressor.models.projection import Projection
from compressor.models.source import layers_stated, read_config
from exporters.runtime.providers import CPU
from exporters.verify.check import Check
from exporters.verify.check import gate as gate_of


def tradeoff(
    recipe: Recipe,
    layers: Sequence[int],
    base: Path,
    runs: Path,
    command: str,
    precisions: Sequence[Precision] = ("int8",),
) -> dict[str, Any]:
    """Make the recipe's model with each count of ``layers``, measure all beside the teacher, return the results.

    Writes ``tradeoff.json``, ``.md``, ``.svg`` and an artifact a student into ``runs/<name>-tradeoff/``; goes on
    where it was stopped. A student below its bars is measured and not handed out; GateError if none passed.
    The recipe's PyTorch int8 form is left out.
    """
    started, work = time.monotonic(), Workspace(runs / f"{recipe.name}-tradeoff")
    sts = _check(recipe, base)
    with work.lock():
        trunk = EmbeddingFlow(recipe, base, work)
        depth = layers_stated(read_config(trunk.teacher.folder))
        check_counts(layers, depth)
        students = _make(trunk, sorted(layers, reverse=True), depth, precisions)
        results = _measured(trunk, students, depth, sts, precisions)
        results |= {"command": command, "seconds": time.monotonic() - started}
        _hand_out(work.folder / "artifacts", students, precisions)
        write_json(work.folder / "tradeoff.json", results)
        replace_text(work.folder / "tradeoff.md", page(results))
        replace_text(work.folder / "tradeoff.svg", picture(results))
    if not any(student.gate == PASSED for student in students):
        raise GateError(
            f"{work.folder}: no student passed, none is handed out; tradeoff.md has the figures they missed"
        )
    return results


def read_counts(text: str) -> list[int]:
    """Read ``--layers``: whole numbers, commas between them."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"--layers {text}: expected counts of layers, as 6,4,2,0") from error


def read_precisions(text: str) -> tuple[Precision, ...]:
    """Read ``--precision``: the artifacts of a student that are measured and handed out."""
    known: dict[str, tuple[Precision, ...]] = {"int8": ("int8",), "fp32": ("fp32",), "both": ("fp32", "int8")}
    if text not in known:
        raise RecipeError(f"--precision {text}: must be int8, fp32 or both")
    return known[text]


def check_counts(layers: Sequence[int], depth: int) -> None:
    """Raise RecipeError for counts that the teacher does not have, or that stand twice."""
    stated = f"--layers {','.join(map(str, layers))}"
    if not layers:
        raise RecipeError("--layers: give at least one count")
    if outside := [n for n in layers if not 0 <= n <= depth]:
        raise RecipeError(f"{stated}: {outside[0]} is not in 0..{depth}; the teacher has {depth} layers")
    if twice := [n for n in layers if list(layers).count(n) > 1]:
        raise RecipeError(f"{stated}: {twice[0]} stands twice")


def with_layers(recipe: Recipe, count: int, depth: int) -> Recipe:
    """Return the recipe with a student of ``count`` layers; at the teacher's own depth nothing is distilled."""
    values = recipe.model_dump(mode="json") | {"name": f"{recipe.name}-{count}-layers", "quantize": None}
    own = (recipe.distil or Distil()).model_dump(mode="json")
    values["distil"] = None if count == depth else own | {"layers": count}
    return Recipe.read(values, f"--layers {count}")


@dataclass(frozen=True)
class Student:
    """A model of so many layers, its artifacts, and what the gate said of them."""

    layers: int
    artifacts: dict[Precision, Model]
    projection: Projection | None
    checks: list[Check]
    gate: str
    kept: list[int] | None
    train_seconds: float | None

    def candidate(self, precision: Precision, threads: int | None) -> Candidate:
        """Return the system that one of the artifacts is measured as."""
        label, folder = label_of(self.layers, precision), str(self.artifacts[precision].folder)
        return Candidate(System(name_of(self.layers, precision), label, "onnx", folder, CPU, threads), self.projection)

    def measured(self, precision: Precision) -> list[dict[str, Any]]:
        """Return the checks of one of the artifacts, under its name among all."""
        own = {"artifact": name_of(self.layers, precision)}
        return [check.as_dict() | own for check in self.checks if check.artifact == precision]

    def facts(self, precision: Precision) -> dict[str, Any]:
        """Return what a row of the table has besides its measurements."""
        own = f"artifacts/{name_of(self.layers, precision)}" if self.gate == PASSED else None
        return {
            "layers": self.layers,
            "kept": self.kept,
            "precision": precision,
            "train_seconds": self.train_seconds,
            "gate": self.gate,
            "artifact": own,
        }


def _check(recipe: Recipe, base: Path) -> list[Sts]:
    if recipe.bench.providers != (CPU,):
        allowed = f'a trade-off is measured on ["{CPU}"]'
        raise RecipeError(f"bench.providers = {json.dumps(recipe.bench.providers)}: {allowed}")
    recipe.bench.collections(base)
    return recipe.bench.check(base)


def _make(trunk: EmbeddingFlow, layers: Sequence[int], depth: int, precisions: Sequence[Precision]) -> list[Student]:
    """Walk the flow of every student, each in a folder of its own."""
    flows = {
        n: Branch(with_layers(trunk.recipe, n, depth), trunk.base, Workspace(trunk.work.folder / f"{n}-layers"), trunk)
        for n in layers
    }
    flows[min(layers)].check()
    flows[min(layers)].announce()
    students = []
    for number, (count, flow) in enumerate(flows.items(), start=1):
        say((label_of(count), "bold"), f" ({number} of {len(flows)})")
        students.append(_student(flow, count, precisions))
    return students


def _student(flow: EmbeddingFlow, count: int, precisions: Sequence[Precision]) -> Student:
    """Make one student and hold it to the recipe's bars; what misses one keeps its unpublished artifacts."""
    student = flow.distil()
    reduced = flow.pca(student)
    fp32 = flow.optimise(flow.export(reduced))
    made: dict[Precision, Model] = {"fp32": fp32, "int8": flow.int8(fp32)}
    checks = flow.checks(reduced, fp32, made["int8"])
    try:
        gate_of(checks)
    except GateError as miss:
        say(("gate missed", "yellow"), f": {miss}")
        gate = f"missed: {miss}"
    else:
        ranges = flow.ranges(reduced)
        gate, made = PASSED, {name: flow.publish(name, made[name], ranges, checks, reduced) for name in precisions}
    figures = student.figures
    trained = figures.get("train_seconds", figures.get("seconds"))
    return Student(count, made, Projection.load(reduced.folder), checks, gate, figures.get("layers"), trained)


def _measured(
    trunk: EmbeddingFlow, students: Sequence[Student], depth: int, sts: Sequence[Sts], precisions: Sequence[Precision]
) -> dict[str, Any]:
    """Measure all in one run and return the results, the teacher's row first, then by layers."""
    pairs = [(student, precision) for student in students for precision in precisions]
    bench = _benchmark(trunk, pairs, sts).as_dict()
    rows = {row["name"]: row for row in bench["systems"]}
    teacher = rows["teacher"] | {"layers": depth, "precision": None, "train_seconds": None, "gate": None}
    own = [rows[name_of(student.layers, precision)] | student.facts(precision) for student, precision in pairs]
    measure = measure_of([teacher, *own])
    return {
        "format": FORMAT,
        "name": trunk.recipe.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": trunk.recipe.model_dump(mode="json"),
        "environment": describe(),
        "teacher": TeacherFacts(trunk.teacher.name, trunk.teacher.origin, trunk.teacher.weights_sha256).as_dict(),
        "texts": trunk.facts(),
        "sts": [{"name": file.name, "pairs": len(file.scores), "key": file.key} for file in sts],
        "measure": measure,
        "verify": [check for student, precision in pairs for check in student.measured(precision)],
        "bench": bench | {"systems": with_share([teacher, *own], measure)},
    }


def _benchmark(trunk: EmbeddingFlow, pairs: Sequence[tuple[Student, Precision]], sts: Sequence[Sts]) -> BenchFigures:
    stage = SideBySide(bench=trunk.recipe.bench.model_copy(update={"lengths": ()}))
    teacher = System("teacher", "teacher, PyTorch fp32 encode", "torch", str(trunk.teacher.folder), "PyTorch CPU",
                     stage.bench.threads)  # fmt: skip
    # The deepest last: its tokenizer counts the texts' tokens.
    own = [student.candidate(precision, stage.bench.threads) for student, precision in reversed(pairs)]
    source, texts = stage.bench.pick_texts(trunk.base, trunk.corpus.heldout)
    models = [student.artifacts[precision] for student, precision in pairs]
    searched: list[Keyed] = [trunk.index] if trunk.collections else []
    inputs: list[Keyed] = [*trunk.judged, *models, *sts, *searched, Key(key_of(texts, describe()))]
    made = trunk.work.stage("bench", stage, inputs, lambda to: stage.run(
        [Candidate(teacher), *own], trunk.heldout, sts, (source, texts), to, trunk.searches))  # fmt: skip
    return BenchFigures.read(made.json("bench.json"))


def _hand_out(folder: Path, students: Iterable[Student], precisions: Sequence[Precision]) -> None:
    """Bring ``folder`` to hold the artifacts of the table and no others of an earlier one."""
    passed = [student for student in students if student.gate == PASSED]
    wanted = {
        name_of(student.layers, precision): student.artifacts[precision]
        for student in passed
        for precision in precisions
    }
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*-layers-*"):
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
