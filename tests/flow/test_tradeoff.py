"""Every count of layers of a tiny real teacher: made, measured together, gone on with, held back at the gate."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sidebyside import write_home

from benchmarks.report.results import systems
from benchmarks.tradeoff import chart as tradeoff_chart
from benchmarks.tradeoff import table as figures
from compressor.artifact.folder import Artifact, read_manifest
from compressor.artifact.workspace import Workspace
from compressor.core.config import load
from compressor.core.errors import GateError, RecipeError
from compressor.distil.training.embedding import Distil
from compressor.flow import tradeoff as flow
from compressor.flow.branch import Branch
from compressor.flow.embedding import Recipe
from exporters.session import OnnxEncoder

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Return a folder with a recipe, its texts and an STS file."""
    return write_home(tmp_path_factory.mktemp("home"), tiny)


def go(home: Path, layers: Sequence[int], *changes: str, **options: Any) -> dict[str, Any]:
    recipe = load(home / "tiny.toml", Recipe, list(changes))
    return flow.tradeoff(recipe, layers, home, home / "runs", "compressor tradeoff tiny.toml", **options)


@pytest.fixture(scope="module")
def results(home: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
        patch.setattr("exporters.precision.tables._TABLE_ROWS", 90)  # the tiny table is a vocabulary as well
        return go(home, [1, 4, 2, 0])


@pytest.fixture
def folder(home: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    return home / "runs" / "tiny-tradeoff"


def test_students_search_the_index_that_all_have() -> None:
    trunk: Any = SimpleNamespace(index="the teacher's", searches="what it finds", collections=["beir"])
    branch = Branch(Recipe(name="one"), Path(), Workspace(Path("one-layer")), trunk)
    assert (branch.index, branch.searches, branch.collections) == ("the teacher's", "what it finds", ["beir"])


def test_a_row_a_count_the_teacher_first_then_the_deepest(results: dict[str, Any]) -> None:
    rows = systems(results)
    made = ["4-layers-int8", "2-layers-int8", "1-layers-int8", "0-layers-int8"]
    assert [row["name"] for row in rows] == ["teacher", *made]
    assert [row["layers"] for row in rows] == [4, 4, 2, 1, 0]
    assert [row["kept"] for row in rows[1:]] == [None, [0, 3], [0], []]
    assert [row["gate"] for row in rows] == [None, *["passed"] * 4]
    assert rows[0]["offline"]["ratio"] == 1.0
    assert all(len(row["offline"]["rounds"]) == 2 for row in rows)
    sizes = [row["size_bytes"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_the_share_is_of_the_teachers_spearman(results: dict[str, Any]) -> None:
    teacher, *rows = systems(results)
    assert results["measure"] == {"sts": "sts"}
    assert teacher["share"] == 1.0
    for row in rows:
        assert row["share"] == pytest.approx(row["sts"]["sts"] / teacher["sts"]["sts"])
    assert rows[0]["share"] == pytest.approx(1, abs=0.02), "all layers kept: the teacher, quantized"
    agreements = [row["agreement"]["cosine_mean"] for row in rows[:3]]
    assert agreements == sorted(agreements, reverse=True)
    # Words without their order give some of a random teacher's vectors, and not all.
    assert 0.2 < rows[3]["agreement"]["cosine_mean"] < agreements[0]


def test_nothing_is_distilled_at_the_teachers_own_depth(folder: Path) -> None:
    assert not (folder / "4-layers" / "distil").exists()
    assert read_manifest(folder / "2-layers" / "distil")["figures"]["layers"] == [0, 3]


def test_the_figures_say_where_they_come_from(results: dict[str, Any], folder: Path) -> None:
    assert json.loads((folder / "tradeoff.json").read_text()) == results
    assert results["command"] == "compressor tradeoff tiny.toml"
    assert results["sts"][0]["pairs"] == 80
    assert results["texts"]["heldout"] == 30
    assert results["environment"]["versions"]["torch"]
    trained = [row["train_seconds"] for row in systems(results)]
    assert trained[:2] == [None, None]
    assert all(seconds > 0 for seconds in trained[2:])


def test_an_artifact_each_manifest_and_all(folder: Path, results: dict[str, Any]) -> None:
    for row in systems(results)[1:]:
        artifact = Artifact.open(folder / row["artifact"])
        assert artifact.manifest == read_manifest(folder / f"{row['layers']}-layers" / "artifacts" / "int8")
        assert OnnxEncoder(artifact.folder).encode(["the cat sleeps"]).shape == (1, 32)
        assert row["size_bytes"] == sum(p.stat().st_size for p in artifact.folder.rglob("*") if p.is_file())
    assert len(list((folder / "artifacts").iterdir())) == 4


def test_table_and_picture_hold_every_row(folder: Path, results: dict[str, Any]) -> None:
    table = (folder / "tradeoff.md").read_text()
    words = "".join(ElementTree.fromstring((folder / "tradeoff.svg").read_text()).itertext())
    assert table == figures.page(results)
    shown = {name: name for name in ("4 layers", "2 layers", "1 layer")} | {"no layers (static)": "static"}
    for name, short in shown.items():
        assert f"| {name}, ONNX int8 |" in table
        assert short in words
    assert "| teacher, PyTorch fp32 encode |" in table
    assert "V100" not in words, "not the data set that the published points are of"


def test_a_second_call_makes_nothing_again(home: Path, folder: Path) -> None:
    def times() -> dict[str, int]:
        return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("manifest.json")}

    before = times()
    assert len(before) > 20
    again = go(home, [4, 2, 1, 0])
    assert times() == before
    assert systems(again) == systems(json.loads((folder / "tradeoff.json").read_text()))


def test_a_missed_bar_is_recorded_and_the_others_go_on(
    home: Path, folder: Path, results: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    deep, shallow = (row["agreement"]["cosine_mean"] for row in systems(results)[1:3])
    bar = (deep + shallow) / 2
    changes = (f"verify.teacher_cosine_mean={bar}", "bench.rounds=1", "fp16={}", "search={}")
    made = go(home, [4, 2], *changes, precisions=("fp32", "int8"))
    assert "left out: fp16, search; fp32 and int8 alone are made, as their sections say" in capsys.readouterr().err
    rows = {row["name"]: row for row in systems(made)}
    assert list(rows) == ["teacher", "4-layers-fp32", "4-layers-int8", "2-layers-fp32", "2-layers-int8"]
    start = "missed: verify fp32: agreement with the teacher: cosine_mean = "
    assert rows["2-layers-int8"]["gate"].startswith(start)
    assert rows["2-layers-int8"]["gate"].endswith("; the bar is verify.teacher_cosine_mean")
    assert rows["2-layers-int8"]["artifact"] is None
    assert rows["2-layers-int8"]["size_bytes"] is None
    assert rows["2-layers-int8"]["sts"]["sts"] == pytest.approx(systems(results)[2]["sts"]["sts"])
    assert rows["4-layers-int8"]["gate"] == "passed"
    assert sorted(p.name for p in (folder / "artifacts").iterdir()) == ["4-layers-fp32", "4-layers-int8"]
    table = figures.table(made)
    assert "| 2 layers, ONNX int8 † |" in table
    assert "† 2 layers, ONNX int8: not handed out, missed: verify fp32: agreement" in table
    assert "gate missed" in tradeoff_chart.picture(made)


def test_no_student_that_passes_is_an_error_after_the_table_is_written(home: Path, folder: Path) -> None:
    line = r"tiny-tradeoff: no student passed, none is handed out; tradeoff\.md has the figures they missed$"
    with pytest.raises(GateError, match=line):
        go(home, [2], "verify.teacher_cosine_mean=1", "bench.rounds=1")
    assert [row["layers"] for row in systems(json.loads((folder / "tradeoff.json").read_text()))] == [4, 2]
    assert not list((folder / "artifacts").iterdir())


def test_a_student_of_so_many_layers(tiny: Path) -> None:
    left_out: dict[str, Any] = {"quantize": {}, "fp16": {}, "search": {}}
    recipe = Recipe.read({"name": "r", "distil": {"epochs": 2.0, "layers": [0, 3]}, **left_out})
    shallow, none, whole = (flow.with_layers(recipe, count, 4) for count in (2, 0, 4))
    assert [one.name for one in (shallow, none, whole)] == ["r-2-layers", "r-0-layers", "r-4-layers"]
    assert whole.distil is None
    assert shallow.distil is not None
    assert none.distil is not None
    assert (shallow.distil.layers, none.distil.layers, none.distil.epochs) == (2, 0, 2.0)
    for made in (shallow, none, whole):
        assert (made.quantize, made.fp16, made.search) == (None, None, None), "an artifact states what made it"
    assert flow.with_layers(Recipe(name="bare"), 1, 4).distil == Distil(layers=1)


@pytest.mark.parametrize(
    ("layers", "line"),
    [
        ("3,2,3", "--layers 3,2,3: 3 stands twice"),
        ("-1", "--layers -1: -1 is not in 0..4; the teacher has 4 layers"),
        ("5,4", "--layers 5,4: 5 is not in 0..4; the teacher has 4 layers"),
        ("6,,2", "--layers 6,,2: expected counts of layers, as 6,4,2,0"),
        ("2.5", "--layers 2.5: expected counts of layers, as 6,4,2,0"),
    ],
)
def test_bad_counts(layers: str, line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        flow.check_counts(flow.read_counts(layers), 4)
    assert str(caught.value) == line


def test_bad_precision_and_provider(home: Path) -> None:
    with pytest.raises(RecipeError, match=r"^--precision int4: must be int8, fp32 or both$"):
        flow.read_precisions("int4")
    line = r'^bench\.providers = \["CUDAExecutionProvider"\]: a trade-off is measured on \["CPUExecutionProvider"\]$'
    with pytest.raises(RecipeError, match=line):
        go(home, [2], 'bench.providers=["CUDAExecutionProvider"]')


def test_without_an_sts_file_quality_is_agreement() -> None:
    rows = [{"sts": {}}, {"agreement": {"cosine_mean": 0.9, "neighbours_at_10": 0.6}}]
    assert figures.measure_of(rows) == {"agreement": "cosine_mean"}
    assert [row["share"] for row in figures.with_share(rows, {"agreement": "cosine_mean"})] == [1.0, 0.9]
    other = [*rows, {"agreement": {"neighbours_at_10": 0.5}}]
    assert figures.measure_of(other) == {"agreement": "neighbours_at_10"}, "a space of its own has no cosine"
    assert figures.measure_of([{"sts": {"odd": -3.0}}, rows[1] | {"sts": {"odd": 1.0}}]) == {"agreement": "cosine_mean"}
