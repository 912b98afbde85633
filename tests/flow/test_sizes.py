"""A student planned for each of several sizes of a tiny real teacher: made, measured as whole folders, picked from."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import Command, refusal
from sidebyside import write_home

from benchmarks.pages.sizes import planned
from benchmarks.report.results import systems
from benchmarks.tradeoff import size_chart
from benchmarks.tradeoff import table as figures
from benchmarks.tradeoff.recommend import Bounds, recommend
from compressor.artifact.folder import Artifact
from compressor.core.config import load
from compressor.core.errors import GateError, RecipeError
from compressor.distil.training.embedding import Distil
from compressor.flow.compress.sized.shape import Shape
from compressor.flow.embedding import Recipe
from compressor.flow.sizes import _name as folder_name
from compressor.flow.sizes import check_sizes, read_sizes, tradeoff_of_sizes, with_shape
from exporters.session import OnnxEncoder

SIZES = ("145kB", "73.5kB")
"""Two layers of four, and a static student of some of the words."""


def go(home: Path, sizes: Sequence[str], *changes: str, **options: Any) -> dict[str, Any]:
    recipe = load(home / "tiny.toml", Recipe, list(changes))
    return tradeoff_of_sizes(recipe, sizes, home, home / "runs", "compressor tradeoff tiny.toml", **options)


def of_tiny_tables(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Take the tiny model's vocabulary for one that is worth int8, and worth cutting."""
    patch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    patch.setattr("exporters.precision.tables._TABLE_ROWS", 60)
    patch.setattr("exporters.precision.tables._POSITIONS", 60)
    patch.setattr("compressor.flow.compress.sized.choose._FEWEST", 60)
    patch.setattr("compressor.flow.compress.sized.choose._TOKENS", 10)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Return a folder with a recipe, its texts and an STS file."""
    return write_home(tmp_path_factory.mktemp("sizes"), tiny)


@pytest.fixture(scope="module")
def results(home: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        of_tiny_tables(patch, home)
        return go(home, SIZES[::-1])


@pytest.fixture
def folder(home: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    of_tiny_tables(monkeypatch, home)
    return home / "runs" / "tiny-tradeoff"


def test_a_row_a_size_behind_the_teacher_whole(results: dict[str, Any]) -> None:
    rows = systems(results)
    whole = ["4-layers-fp32", "4-layers-int8"]
    assert [row["name"] for row in rows] == ["teacher", *whole, "145kB-int8", "73.5kB-int8"]
    assert [row["layers"] for row in rows] == [4, 4, 4, 2, 0]
    assert [row.get("size") for row in rows] == [None, None, None, *SIZES]
    assert [row["gate"] for row in rows] == [None, *["passed"] * 4]
    assert rows[3]["plan"] == "2 of 4 layers"
    assert rows[4]["plan"].startswith("no layers (static), a table of ")
    assert rows[1]["sts"]["sts"] == pytest.approx(rows[0]["sts"]["sts"], abs=0.5)
    assert results["varied"] == "size"
    assert all(row["train_seconds"] > 0 for row in rows[3:])


def test_bytes_are_of_every_file_that_is_handed_out(folder: Path, results: dict[str, Any]) -> None:
    for row in systems(results)[1:]:
        handed_out = folder / row["artifact"]
        Artifact.open(handed_out)
        taken = sum(path.stat().st_size for path in handed_out.rglob("*") if path.is_file())
        assert row["size_bytes"] == taken
        if row["size"]:
            assert taken <= row["most_bytes"]
            assert row["planned_bytes"] <= 0.99 * row["most_bytes"]
    sizes = [row["size_bytes"] for row in systems(results)[1:]]
    assert sizes == sorted(sizes, reverse=True)


def test_a_static_student_of_fewer_words_answers(folder: Path, results: dict[str, Any]) -> None:
    row = systems(results)[4]
    artifact = folder / row["artifact"]
    tokens = json.loads((artifact / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    assert len(tokens) == row["shape"]["vocabulary"] < 99
    encoder = OnnxEncoder(artifact)
    first, second = encoder.encode(["the cat sleeps", "the quietly dog"])
    assert first.shape == (32,)
    assert float(first @ second) < 0.999
    assert row["agreement"]["cosine_mean"] > 0.2


def test_table_and_picture_are_of_bytes(folder: Path, results: dict[str, Any]) -> None:
    text = (folder / "tradeoff.md").read_text("utf-8")
    assert text == figures.page(results)
    assert text.startswith("# tiny: bytes against quality and speed\n")
    for row in systems(results)[1:]:
        assert f"| {row['label']} | {row['plan']} | {row['size_bytes']:,} |" in text
    drawn = (folder / "tradeoff.svg").read_text("utf-8")
    assert drawn == size_chart.picture(results)
    words = "".join(ElementTree.fromstring(drawn).itertext())
    assert "bytes of the whole folder" in words
    for name in (*SIZES, "teacher", "all layers, fp32", "all layers, int8"):
        assert name in words


def test_a_size_is_recommended_by_whole_folders(folder: Path, results: dict[str, Any]) -> None:
    whole, static = (systems(results)[row]["size_bytes"] for row in (2, 4))
    assert recommend(folder, Bounds.read(size=str(whole - 1))).pick["name"] != "4-layers-int8"
    assert recommend(folder, Bounds.read(size=str(static))).pick["name"] == "73.5kB-int8"
    with pytest.raises(GateError, match=r"tiny-tradeoff: nothing keeps size ≤ "):
        recommend(folder, Bounds.read(size=str(static - 1)))


def test_a_second_call_makes_nothing_again(home: Path, folder: Path) -> None:
    def times() -> dict[str, int]:
        return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("manifest.json")}

    before = times()
    assert len(before) > 15
    go(home, SIZES)
    assert times() == before


def test_what_missed_is_measured_and_not_handed_out(
    home: Path, folder: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "compressor.flow.variants.whole_bytes", lambda made: 149_000 if "145kB" in str(made) else 70_000
    )
    made = go(home, SIZES, "bench.rounds=1")
    rows = {row["name"]: row for row in systems(made)}
    line = "missed: --sizes 145kB: the artifact takes 149,000 of 145,000 bytes"
    assert (rows["145kB-int8"]["gate"], rows["145kB-int8"]["artifact"]) == (line, None)
    assert rows["145kB-int8"]["size_bytes"] == 149_000, "those of the folder that was to be handed out"
    assert rows["145kB-int8"]["sts"] == systems(results)[3]["sts"]
    assert not (folder / "artifacts" / "145kB-int8").exists()
    assert "145kB, gate missed" in size_chart.picture(made)


def test_a_student_that_misses_every_bar_leaves_the_table(home: Path, folder: Path) -> None:
    with pytest.raises(GateError, match=r"tiny-tradeoff: no student passed, none is handed out; tradeoff\.md has"):
        go(home, SIZES[1:], "verify.teacher_cosine_mean=0.999", "bench.rounds=1")
    made = json.loads((folder / "tradeoff.json").read_text("utf-8"))
    rows = systems(made)
    assert [row["artifact"] is not None for row in rows[1:]] == [True, True, False], "the teacher stands beside them"
    assert rows[3]["size_bytes"] is None, "no folder was made whole"
    assert "73.5kB" not in size_chart.picture(made)
    assert f"| 73.5kB, ONNX int8 † | {rows[3]['plan']} | – |" in figures.table(made)
    assert planned([rows[3]]).markdown().endswith(" | – | – |")


def test_the_same_student_for_another_size_has_its_own_row(home: Path, folder: Path) -> None:
    bars = ("verify.teacher_cosine_mean=0.999", "bench.rounds=1")
    for size in ("73.5kB", "73.52kB"):  # one student, which misses its bar
        with pytest.raises(GateError, match=r"no student passed"):
            go(home, [size], *bars)
        rows = systems(json.loads((folder / "tradeoff.json").read_text("utf-8")))
        assert [row["name"] for row in rows[3:]] == [f"{size}-int8"]


def test_what_a_plan_decides_stands_for_the_recipes(tiny: Path) -> None:
    given = {"layers": 3, "width": 16, "vocabulary": 90, "pairwise": 0.3, "epochs": 2.0, "choice": "last"}
    left_out: dict[str, Any] = {"quantize": {}, "fp16": {}, "search": {}}
    recipe = Recipe.read({"name": "r", "distil": given, "int8": {"embeddings": 4}, **left_out})
    made = with_shape(recipe, "5MB", Shape(2, feed_forward=24, vocabulary=70, dense=False, relu=True))
    planned = {"layers": 2, "feed_forward": 24, "vocabulary": 70, "dense": False, "activation": "relu"}
    assert made.distil == Distil.read(planned | {"pairwise": 0.3, "epochs": 2.0, "choice": "last"})
    assert (made.name, made.int8.embeddings) == ("r-5MB", 8)
    assert (made.quantize, made.fp16, made.search) == (None, None, None)
    assert with_shape(recipe, "9MB", Shape(bits=4)).distil is None
    assert with_shape(recipe, "9MB", Shape(bits=4)).int8.embeddings == 4
    static = with_shape(Recipe(name="bare"), "2MB", Shape(0, vocabulary=80)).distil
    assert static == Distil(layers=0, vocabulary=80)


@pytest.mark.parametrize(
    ("size", "name"),
    [("5 MB", "5MB"), ("1e+6", "1e6"), (".5MB", "0.5MB"), ("1e-3GB", "1e-3GB"), ("2_000_000", "2_000_000")],
)
def test_a_size_names_a_folder_and_a_recipe(size: str, name: str) -> None:
    check_sizes([size])
    assert folder_name(size) == name
    assert with_shape(Recipe(name="r"), name, Shape()).name == f"r-{name}"


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ("5MB,8MB,5 MB", "--sizes 5MB,8MB,5 MB: 5 MB stands twice"),
        ("5MB,five", "--sizes 5MB,five: five: must be a size above 0, as 10MB, 10 MiB or a count of bytes"),
        ("5MB,", "--sizes 5MB,: expected sizes, as 13.5MB,5MB,2MB"),
        ("", "--sizes : expected sizes, as 13.5MB,5MB,2MB"),
    ],
)
def test_bad_sizes(sizes: str, line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_sizes(read_sizes(sizes))
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("sizes", "changes", "line"),
    [
        ("145kB,9kB", (), "--sizes 145kB,9kB: 9kB: the smallest that can be had takes about 0.0"),
        ("300kB,400kB", (), "--sizes 300kB,400kB: 400kB and 300kB are one student: all layers"),
        ("145kB", ("distil.dim=16",), "distil.dim = 16: not with --sizes; leave it out; shorter vectors are had by"),
        ("145kB", ('distil.model="x"',), "distil.model = x: not with --sizes; leave it out"),
        ("145kB", ('bench.providers=["CUDAExecutionProvider"]',), "bench.providers = "),
    ],
)
def test_what_cannot_be_planned_is_refused_before_any_work(
    home: Path, monkeypatch: pytest.MonkeyPatch, sizes: str, changes: Sequence[str], line: str
) -> None:
    of_tiny_tables(monkeypatch, home)
    with pytest.raises(RecipeError) as caught:
        go(home, read_sizes(sizes), "name=refused", *changes)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert not list((home / "runs" / "refused-tradeoff").glob("*/*"))


def test_a_speed_is_planned_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_tiny_tables(monkeypatch, home)
    line = r"^--sizes 145kB: --speed 99x: of --size 145kB the fastest is expected to have 85×$"
    with pytest.raises(RecipeError, match=line):
        go(home, ["145kB"], "name=refused", speed="99x")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--sizes", "60MB", "--precision", "fp32", "--speed", "9x"),
            "--sizes 60MB: --speed 9x: is planned for int8 alone; not with --precision fp32; leave it out",
        ),
        ((), "--layers or --sizes: neither is given; give one of them: --layers 6,3,1,0 or --sizes 13.5MB,5MB"),
        (
            ("--layers", "2", "--sizes", "5MB"),
            "--layers or --sizes: both are given; give one of them: --layers 6,3,1,0 or --sizes 13.5MB,5MB",
        ),
        (("--layers", "2", "--speed", "9x"), "--speed 9x: is planned for with --sizes; not with --layers"),
    ],
)
def test_either_layers_or_sizes(home: Path, command: Command, options: Sequence[str], line: str) -> None:
    assert refusal(command("tradeoff", home / "tiny.toml", *options)) == f"error: {line}"
