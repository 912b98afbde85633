"""The walk of every task, on a third one: a recipe, a flow of the stages that it has, and nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from compressor.artifact.folder import Artifact, Draft, write_json
from compressor.artifact.workspace import Model
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, GateError, RecipeError
from compressor.flow import base
from compressor.flow.base import Flow, run
from compressor.flow.results import Measured
from compressor.flow.tasks import FLOWS, TaskFlow, flow_named
from compressor.models.source import Source
from exporters.verify.check import Check


class Making(Config):
    """A stage that leaves a file."""

    ranges: str = "batch"
    """As those of int8."""

    def run(self, folder: Path, to: Draft) -> None:
        (to.folder / "made.txt").write_text(folder.name)
        to.figures["operators"] = {"MatMul": len(folder.name)}


class Judging(Config):
    """A stage that leaves one check."""

    bar: float = 0.5

    def run(self, to: Draft) -> None:
        write_json(to.folder / "checks.json", [Check("int8", "labels", "accuracy", 0.75, self.bar).as_dict()])


class LabelRecipe(Config):
    """A recipe of a task that labels texts."""

    name: str = "labels"
    task: Literal["labelling"] = "labelling"
    train: Making = Making()
    optimise: Making = Making()
    int8: Making = Making()
    verify: Judging = Judging()


class LabelFlow(Flow):
    """What a third task must write."""

    @property
    def source(self) -> Source:
        return Source(self.base, "k", {}, "org/labels", "folder", "ab12")

    @property
    def teacher(self) -> Source:
        return self.source

    def data(self) -> tuple[str, str]:
        return "texts", "texts.txt: 3 to train"

    def check(self) -> None:
        with pytest.raises(ArtifactError, match="another run is at work in this folder"), self.work.lock():
            raise AssertionError("nobody else may check")
        if self.recipe.name == "refused":
            raise RecipeError("name = refused: must be another")

    def make_student(self) -> dict[str, Model]:
        return {"train": self.made("train", self.teacher)}

    def export(self, student: Model) -> Model:
        return self.made("export", student)

    def sample(self, fp32: Path, count: int) -> Any:
        raise AssertionError("ranges = batch needs none")

    def examine(self, student: Model, fp32: Model, int8: Model) -> Model:
        stage = self.recipe.verify
        return self.work.stage("verify", stage, [student, fp32, int8], lambda to: stage.run(to))

    def hand_out(self, student: Model, fp32: Model, int8: Model, checks: Sequence[Check]) -> dict[str, Model]:
        return {name: self.made(f"artifacts/{name}", made) for name, made in (("fp32", fp32), ("int8", int8))}

    def measure(self, stages: dict[str, Model]) -> Measured:
        return Measured("texts", {"train": 3}, [{"stage": name} for name in stages], {"systems": []})

    def made(self, name: str, of: Model) -> Model:
        stage = self.recipe.train
        return self.work.stage(name, stage, [of], lambda to: stage.run(of.folder, to))


class SearchedFlow(LabelFlow):
    """One with the stages that a task may have."""

    def quantize(self, student: Model) -> Model:
        return self.made("quantize", student)

    def search(self, fp32: Model) -> Model:
        return self.made("search", fp32)

    def own_results(self, stages: dict[str, Model]) -> dict[str, Any]:
        return {"labels": list(stages)}

    def teacher_facts(self) -> dict[str, Any]:
        return {"labels": 7}


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what pages are made of, by their path."""
    written: dict[str, Any] = {}
    monkeypatch.setattr(base, "write_report", lambda results, path: written.update({str(path): results}))
    return written


def walk(home: Path, kind: type[Flow] = LabelFlow, **values: Any) -> dict[str, Any]:
    return run(kind.of(LabelRecipe(**values), home / "teacher", home / "runs"), "compressor run labels.toml")


def test_a_third_task_gives_its_stages_and_is_walked(tmp_path: Path, pages: dict[str, Any]) -> None:
    results, folder = walk(tmp_path), tmp_path / "runs" / "labels"
    assert list(results) == [
        "name", "task", "created", "recipe", "environment", "teacher", "texts", "story", "bench", "command", "seconds",
        "verify", "graphs",
    ]  # fmt: skip
    assert [row["stage"] for row in results["story"]] == ["teacher", "train", "fp32", "int8"]
    assert (results["name"], results["task"]) == ("labels", "labelling")
    assert results["teacher"] == {"name": "org/labels", "source": "folder", "weights_sha256": "ab12"}
    assert [check["value"] for check in results["verify"]] == [0.75]
    assert results["graphs"] == {"fp32": {"MatMul": len("export")}, "int8": {"MatMul": len("optimise")}}
    assert results["seconds"] > 0
    assert json.loads((folder / "results.json").read_text()) == results
    assert pages == {str(folder / "report.html"): results}
    made = {p.parent.relative_to(folder).as_posix() for p in folder.rglob("manifest.json")}
    assert made == {"train", "export", "optimise", "int8", "verify", "artifacts/fp32", "artifacts/int8"}


def test_stages_that_a_task_may_have_take_their_places(tmp_path: Path) -> None:
    results, folder = walk(tmp_path, SearchedFlow), tmp_path / "runs" / "labels"
    stages = ["teacher", "train", "quantize", "fp32", "int8"]
    assert [row["stage"] for row in results["story"]] == results["labels"] == stages
    assert results["teacher"]["labels"] == 7
    assert list(results).index("labels") == list(results).index("verify") + 1
    assert not (folder / "int8").exists(), "what was searched stands for it"
    assert (folder / "artifacts" / "int8" / "made.txt").read_text() == "search"


def test_a_second_walk_makes_nothing_again_and_a_changed_stage_what_follows(tmp_path: Path) -> None:
    def times() -> dict[str, int]:
        folder = tmp_path / "runs" / "labels"
        return {p.parent.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("manifest.json")}

    walk(tmp_path)
    first = times()
    walk(tmp_path)
    assert times() == first
    walk(tmp_path, verify=Judging(bar=0.7))
    assert {name for name, time in times().items() if time != first[name]} == {"verify"}


def test_a_missed_bar_hands_nothing_out(tmp_path: Path, pages: dict[str, Any]) -> None:
    with pytest.raises(GateError, match=r"^verify int8: labels: accuracy = 0\.75, must be >= 0\.9; the bar is fixed$"):
        walk(tmp_path, verify=Judging(bar=0.9))
    folder = tmp_path / "runs" / "labels"
    assert Artifact.open(folder / "int8")
    assert not (folder / "artifacts").exists()
    assert not (folder / "results.json").exists()
    assert not pages


def test_settings_are_held_against_the_data_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^name = refused: must be another$"):
        walk(tmp_path, name="refused")
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_task_of_one_process_refuses_a_second(rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = r"^environment variable WORLD_SIZE = 2: must be 1: labelling trains in one process$"
    with pytest.raises(RecipeError, match=line):
        walk(tmp_path)
    assert not (tmp_path / "runs").exists()


def test_what_a_task_must_give_is_asked_for(tmp_path: Path) -> None:
    class Half(LabelFlow):
        measure = Flow.measure

    with pytest.raises(TypeError, match="abstract method '?measure"):
        Half.of(LabelRecipe(), tmp_path, tmp_path)
    given = {"source", "teacher", "data", "check", "make_student", "export", "sample", "examine", "hand_out", "measure"}
    assert Flow.__abstractmethods__ == given


@pytest.mark.parametrize("name", FLOWS)
def test_the_table_of_tasks_names_what_is_there(name: str) -> None:
    task = FLOWS[name]
    assert get_args(task.schema.model_fields["task"].annotation) == (name,)
    module, _, flow = task.flow_at.partition(":")
    kind = getattr(__import__(module, fromlist=[flow]), flow)
    assert issubclass(kind, Flow)
    assert kind.__dataclass_fields__["recipe"].type is task.schema
    assert not kind.__abstractmethods__


def label_ablation(recipe: LabelRecipe, base: Path, runs: Path, command: str) -> dict[str, Any]:
    """Stand for what a third task writes."""
    return {"command": command}


def test_one_entry_makes_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = TaskFlow(*(f"{__name__}:{name}" for name in ("LabelRecipe", "LabelFlow", "label_ablation")))
    monkeypatch.setitem(FLOWS, "labelling", entry)
    task = flow_named("labelling", "results.json")
    results = task.run(task.schema(), tmp_path / "teacher", tmp_path / "runs", "")
    assert results["task"] == "labelling"
    assert task.ablation(task.schema(), tmp_path, tmp_path / "runs", "the command") == {"command": "the command"}
    with pytest.raises(RecipeError, match=r"must be sentence-embedding or question-answering or labelling$"):
        flow_named(["labelling"], "results.json")
