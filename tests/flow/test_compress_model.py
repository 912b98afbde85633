"""A model compressed without a recipe: its run, its recipe that runs again, a target's depth, all layers."""

import json
from pathlib import Path
from typing import Any

import pytest
from builders import sentences
from questions import questions, write_squad

from compressor import compress
from compressor.artifact.folder import Artifact, read_manifest
from compressor.core.config import load
from compressor.core.errors import ArtifactError, GateError, ModelError, RecipeError
from compressor.flow.compress.chooser import Chooser
from compressor.flow.compress.plan import Plan
from compressor.flow.compress.walk import compress_model
from compressor.flow.compress.wish import Wish
from compressor.flow.embedding import Recipe
from compressor.texts.corpus import TextSource
from exporters import OnnxEncoder

SHORT = ("bench.rounds=1", "bench.queries=20", "bench.count=64", "bench.lengths=[16]", "bench.batch_sizes=[8]")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(sentences(500)), "utf-8")
    return path


def go(model: Path, texts: Path, out: Path, changes: tuple[str, ...] = SHORT, **wanted: Any) -> dict[str, Any]:
    return compress_model(str(model), TextSource(str(texts)), out, Wish.read(wanted), "compress", None, changes)


def made(folder: Path) -> dict[str, int]:
    """Return when each stage was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("manifest.json")}


@pytest.fixture(scope="module")
def small(tiny: Path, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "small"
    go(tiny, texts, out, time_budget="6s", layers=2, dim=16)
    return out


def test_a_run_with_its_recipe_and_report(small: Path, tiny: Path) -> None:
    assert OnnxEncoder(small / "artifacts" / "int8").encode(["one cat"]).shape == (1, 16)
    assert (small / "report.html").is_file()
    results = json.loads((small / "results.json").read_text("utf-8"))
    assert [row["stage"] for row in results["story"]] == ["teacher", "distil", "pca", "fp32", "int8"]
    recipe = load(small / "recipe.toml", Recipe)
    assert recipe.distil is not None
    assert recipe.pca is not None
    assert (recipe.name, recipe.distil.layers, recipe.distil.time_budget, recipe.pca.dim) == ("small", 2, "3s", 16)
    assert (small / recipe.teacher.model).resolve() == tiny.resolve()
    assert results["recipe"] == recipe.model_dump(mode="json")
    assert "# plan: 2 of 4 layers; vectors of 16 dimensions; int8;" in (small / "recipe.toml").read_text("utf-8")


def test_its_recipe_runs_as_it_stands(small: Path, tmp_path: Path) -> None:
    before = made(small)
    compress(small / "recipe.toml", runs=small.parent)
    assert made(small) == before, "on in its own folder, where all is made"


def test_the_same_call_goes_on(small: Path, tiny: Path, texts: Path) -> None:
    before, recipe = made(small), (small / "recipe.toml").read_bytes()
    go(tiny, texts, small, time_budget="6s", layers=2, dim=16)
    assert made(small) == before
    assert (small / "recipe.toml").read_bytes() == recipe


@pytest.mark.slow
def test_all_layers_are_not_distilled(tiny: Path, texts: Path, tmp_path: Path) -> None:
    results = go(tiny, texts, tmp_path / "whole", layers="all")
    folder = tmp_path / "whole"
    assert [row["stage"] for row in results["story"]] == ["teacher", "fp32", "int8"]
    assert not (folder / "distil").exists()
    artifact = Artifact.open(folder / "artifacts" / "int8").folder
    assert {"README.md", "conformance", "manifest.json"} <= {path.name for path in artifact.iterdir()}
    figures = {(c["artifact"], c["figure"]): c for c in results["verify"] if c["field"]}
    assert figures["fp32", "max_difference"]["value"] < 1e-5
    assert figures["fp32", "cosine_mean"]["bar"] > 0.9, "all but the teacher itself"
    assert figures["int8", "cosine_mean"]["value"] > 0.98


@pytest.mark.slow
def test_a_target_chooses_the_depth(tiny: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "aimed"
    results = go(tiny, texts, out, quality=0.5, time_budget="8s")
    table = json.loads((out / "aimed-tradeoff" / "tradeoff.json").read_text("utf-8"))
    assert [row["layers"] for row in table["bench"]["systems"]] == [4, 4, 2], "four seconds train one depth"
    assert results["name"] == "aimed"
    recipe = load(out / "recipe.toml", Recipe)
    kept = 4 if recipe.distil is None else recipe.distil.layers
    assert kept in (2, 4)
    assert f"quality ≥ 50 %, of 4, 2 layers: {kept} layers" in (out / "recipe.toml").read_text("utf-8")
    branch = out / "aimed-tradeoff" / f"{kept}-layers"
    assert read_manifest(out / "int8")["key"] == read_manifest(branch / "int8")["key"], "made once"
    assert OnnxEncoder(out / "artifacts" / "int8").encode(["one cat"]).shape == (1, 32)


@pytest.mark.slow
def test_a_target_that_nothing_keeps_says_what_comes_near(tiny: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"nothing keeps speed ≥ 9999×; closest is .* misses --speed"):
        go(tiny, texts, tmp_path / "far", speed="9999x", time_budget="4s")


def test_a_missed_bar_says_where_it_stands(small: Path, tiny: Path, texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "strict"
    line = r"must be >= 1; the bar is verify\.teacher_cosine_mean; bars stand in .*recipe\.toml$"
    with pytest.raises(GateError, match=line):
        go(tiny, texts, out, (*SHORT, "verify.teacher_cosine_mean=1.0"), layers=1, time_budget="2s")
    assert not (out / "artifacts").exists()


def test_nothing_is_done_but_said(tiny: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wish, source = Wish(layers=1, dim=8), TextSource(str(texts))
    values = compress_model(str(tiny), source, tmp_path / "none", wish, "", dry_run=True)
    assert not (tmp_path / "none").exists()
    assert values["distil"]["layers"] == 1
    assert Recipe.read(values).pca is not None
    said = capsys.readouterr().err
    assert all(f"\n{head}: " in f"\n{said}" for head in ("model", "graph", "student", "int8", "plan", "machine"))


def test_what_would_be_gone_on_with_is_shown_as_it_stands(
    tiny: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wish, source, out = Wish(layers=1, dim=8), TextSource(str(texts)), tmp_path / "kept"
    chooser = Chooser(str(tiny), source, out, wish)
    Plan(out, chooser.wanted).write({"name": "kept", "distil": {"layers": 3}}, ["compress"])
    values = compress_model(str(tiny), source, out, wish, "", dry_run=True)
    assert values == {"name": "kept", "distil": {"layers": 3}}
    assert capsys.readouterr().err == f"recipe: {out / 'recipe.toml'}, as it stands\n"
    other = compress_model(str(tiny), source, out, Wish(layers=2), "", dry_run=True)
    assert other["distil"]["layers"] == 2


def test_from_python(tiny: Path, texts: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"layres: unknown key; did you mean layers\?"):
        compress(tiny, texts=texts, out=tmp_path / "x", layres=3)
    with pytest.raises(RecipeError, match=r"^layers: goes with a model; a recipe states it itself$"):
        compress(Recipe(name="mine"), layers=3)
    with pytest.raises(ModelError, match=r"no such folder, and not a name on the hub"):
        compress(tmp_path / "nothing", texts=texts)
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "mine.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"holds something else"):
        compress(tiny, texts=texts, out=tmp_path / "occupied")


def test_a_reader_takes_questions_and_nothing_else_of_encoders(tiny: Path, texts: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked.json"
    write_squad(asked, questions(200))
    with pytest.raises(RecipeError, match=r"^--dim: of encoders alone; not with --questions$"):
        compress(tiny, questions=asked, out=tmp_path / "r", dim=8)
    with pytest.raises(RecipeError, match=r"^--layers all: a reader's recipe distils; give a number"):
        compress(tiny, questions=asked, out=tmp_path / "r", layers="all")
    with pytest.raises(RecipeError, match=r"^--texts .*: not with --questions$"):
        compress(tiny, texts=texts, questions=asked, out=tmp_path / "r")
    values = compress_model(str(tiny), None, tmp_path / "r", Wish(layers=2), "", asked, dry_run=True)
    assert values == {
        "name": "r",
        "task": "question-answering",
        "teacher": {"model": values["teacher"]["model"]},
        "questions": {"train": "../asked.json"},
        "distil": [{"layers": 2}],
    }
