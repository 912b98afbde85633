"""The page of quality against bytes is there with its results and gone without, and each of its points is in them."""

import copy
import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages import figures, searching, sizes
from benchmarks.report.markdown import source
from benchmarks.report.results import systems
from benchmarks.tradeoff import size_chart
from compressor.core.errors import ArtifactError

ROOT = Path(__file__).parents[2]
SIZES = {
    "3-layers-int8": ("13.5MB", 13_400_000),
    "2-layers-int8": ("5MB", 4_950_000),
    "1-layers-int8": ("2MB", 1_990_000),
}
"""Rows of a committed trade-off, as if they had been planned for these sizes, and had so many bytes."""


@pytest.fixture
def run() -> dict[str, Any]:
    """Return a committed trade-off of depth, as if it were of sizes."""
    made = json.loads((ROOT / figures.FIGURES / f"{searching.NAMES[0]}.json").read_text("utf-8"))
    made |= {"name": sizes.NAME, "varied": "size", "sizes": [size for size, _ in SIZES.values()]}
    shown = [row for row in systems(made) if row["name"] in {"teacher", "3-layers-fp32", *SIZES}]
    for row in shown[1:]:
        size, taken = SIZES.get(row["name"], (None, row["size_bytes"]))
        row |= {"size": size, "plan": f"{row['layers']} of 6 layers", "size_bytes": taken}
        if size:
            bounds = {"most_bytes": float(size.removesuffix("MB")) * 1e6, "planned_bytes": taken - 4_950}
            row |= bounds | {"name": f"{size}-int8", "label": f"{size}, ONNX int8"}
    made["bench"]["systems"] = shown
    return copy.deepcopy(made)


def words(drawn: str) -> str:
    return "".join(ElementTree.fromstring(drawn).itertext())


def test_the_page_has_every_plan_and_its_figures(run: dict[str, Any]) -> None:
    made = sizes.pages({sizes.NAME: run}, source)
    text = made[sizes.PAGE]
    for row in systems(run)[1:]:
        assert f"| {row['plan']} | {row['size_bytes']:,} | {row['sts']['en-test']:.2f} |" in text
        assert f"| {100 * row['retrieval_share']:.1f} % |" in text
        assert f"| {row['train_seconds'] / 60:.1f} min |" in text
    assert "| 5MB | 5,000,000 | 4,945,050 | 4,950,000 | -0.10 % |" in text
    assert "`compressor recommend runs/minilm-sizes-tradeoff --size 2MB`" in text
    assert run["command"] in text
    assert "![Share of the teacher's quality against the bytes of the whole folder](sizes.svg)" in text


def test_points_stand_at_their_bytes_and_shares(run: dict[str, Any]) -> None:
    drawn = size_chart.picture(run)
    assert sizes.pages({sizes.NAME: run}, source)[sizes.PICTURE] == drawn
    named = words(drawn)
    for name in ("teacher", "13.5MB", "5MB", "2MB", "all layers, fp32", "retrieval: mean nDCG@10", "2 MB", "91 MB"):
        assert name in named
    similar, found = [line for line in ElementTree.fromstring(drawn).iter() if len(line.get("points", "").split()) == 5]
    for line, key in ((similar, "share"), (found, "retrieval_share")):
        dots = [tuple(map(float, dot.split(","))) for dot in line.get("points", "").split()]
        rows = sorted(systems(run), key=lambda row: row["size_bytes"])
        assert [left for left, _ in dots] == sorted(left for left, _ in dots)
        heights = sorted(zip(dots, rows, strict=True), key=lambda pair: pair[0][1])
        shares = [row[key] for _, row in heights]
        assert shares == sorted(shares, reverse=True)
    # On the logarithmic axis equal factors are equally far apart.
    at = {row["size_bytes"]: dot for row, dot in zip(rows, dots, strict=True)}
    first, second, third = (at[size][0] for size in (1_990_000, 4_950_000, 13_400_000))
    assert (second - first) / (third - second) == pytest.approx(0.915, abs=0.01)


def test_without_retrieval_or_figures_there_is_less_to_draw(run: dict[str, Any]) -> None:
    for row in systems(run):
        row.pop("retrieval_share")
    assert "retrieval" not in words(size_chart.picture(run))
    run["bench"]["systems"] = systems(run)[:1]
    assert size_chart.picture(run) == ""


def test_a_student_that_missed_stands_there_as_one(run: dict[str, Any]) -> None:
    systems(run)[-1].update(gate="missed: --sizes 2MB: the artifact takes 2,100,000 of 2,000,000 bytes", artifact=None)
    made = sizes.pages({sizes.NAME: run}, source)
    assert "† 2MB, ONNX int8: not handed out, missed: --sizes 2MB: the artifact takes 2,100,000" in made[sizes.PAGE]
    assert "2MB, gate missed" in words(made[sizes.PICTURE])


def test_results_of_depth_are_no_page_of_sizes(run: dict[str, Any]) -> None:
    assert sizes.pages({}, source) == {}
    del run["varied"]
    with pytest.raises(ArtifactError, match=r"^docs/figures/minilm-sizes\.json: no trade-off of sizes; "):
        sizes.pages({sizes.NAME: run}, source)


def test_page_picture_and_links_come_and_go_with_the_figures(run: dict[str, Any], tmp_path: Path) -> None:
    names = {name: ROOT / figures.FIGURES / f"{name}.json" for name in (*figures.NAMES, *figures.OPTIONAL)}
    committed = {name: json.loads(path.read_text("utf-8")) for name, path in names.items() if path.exists()}
    for page in (figures.README, *sizes.LINKS):
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    written = [tmp_path / path for path in (sizes.PAGE, sizes.PICTURE)]
    figures.update(committed | {sizes.NAME: run}, tmp_path, check=False)
    assert all(path.exists() for path in written)
    assert "[small.md](small.md)<!-- sizes:start -->, [sizes.md](sizes.md)<!-- sizes:end --> |" in read(tmp_path)
    without = {name: made for name, made in committed.items() if name != sizes.NAME}
    assert set(figures.update(without, tmp_path, check=True)) >= {*written, *(tmp_path / path for path in sizes.LINKS)}
    figures.update(without, tmp_path, check=False)
    assert not any(path.exists() for path in written)
    assert "sizes.md" not in read(tmp_path)
    assert figures.update(without, tmp_path, check=True) == []


def read(folder: Path) -> str:
    return "".join((folder / page).read_text("utf-8") for page in sizes.LINKS)
