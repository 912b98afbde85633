"""The pictures show what the results say."""

import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise
from typing import Any

import pytest
from measured import SVG, circles

from benchmarks.report import charts, readers
from benchmarks.report.results import spearman
from benchmarks.report.svg import WIDTH, Box, Scale, grid, place

STS = spearman("en-test")


def test_pictures_are_well_formed(results: dict[str, Any]) -> None:
    results["bench"]["systems"][1]["label"] = 'a & b < "c"'
    drawn = (charts.quality_against_speed(results, STS), charts.latency_by_length(results), charts.story(results, STS))
    for picture in drawn:
        root = ElementTree.fromstring(picture)
        assert root.get("viewBox", "").startswith("0 0 820 ")
        assert root.get("role") == "img"
        named = {element.get("id") for element in root if element.tag in (f"{SVG}title", f"{SVG}desc")}
        assert named == set(root.get("aria-labelledby", "").split())
        assert "prefers-color-scheme:dark" in (root.findtext(f"{SVG}style") or "")


def test_points_stand_where_their_figures_say(results: dict[str, Any]) -> None:
    systems = results["bench"]["systems"]
    points = circles(charts.quality_against_speed(results, STS))
    by_speed = sorted(zip([s["offline"]["ratio"] for s in systems], points, strict=True))
    assert all(slow[1][0] < fast[1][0] for slow, fast in pairwise(by_speed))
    by_quality = sorted(zip([s["sts"]["en-test"] for s in systems], points, strict=True))
    assert all(worse[1][1] >= better[1][1] for worse, better in pairwise(by_quality))
    areas = [radius**2 / s["size_bytes"] for s, (_, _, radius) in zip(systems, points, strict=True)]
    assert areas == pytest.approx([areas[0]] * 5, rel=1e-3)


def test_a_readers_picture_has_both_scores_against_size_and_speed(reader_results: dict[str, Any]) -> None:
    shown = reader_results["bench"]["systems"]
    dots = circles(readers.picture(reader_results))
    assert len(dots) == 2 * 2 * 5
    for half, figure in ((dots[:10], "size_bytes"), (dots[10:], "questions_per_second")):
        values = [row.get(figure) or row["offline"].get(figure) for row in shown]
        assert [x for _, (x, *_) in sorted(zip(values, half[::2], strict=True))] == sorted(x for x, *_ in half[::2])
        for row, (_, f1, _), (_, exact, _) in zip(shown, half[::2], half[1::2], strict=True):
            assert f1 < exact, row["name"]  # up on the page


def test_a_readers_picture_leaves_out_whom_it_cannot_place(reader_results: dict[str, Any]) -> None:
    teacher, student, *_ = reader_results["bench"]["systems"]
    teacher["size_bytes"], student["answers"] = None, None
    drawn = readers.picture(reader_results)
    assert len(circles(drawn)) == 2 * 2 * 3
    assert 'class="f-teacher' not in drawn  # no other takes the teacher's colour
    for row in reader_results["bench"]["systems"]:
        row["offline"] = None
    assert readers.picture(reader_results) == ""


def test_latency_rises_on_the_page_as_in_the_figures(results: dict[str, Any]) -> None:
    points = circles(charts.latency_by_length(results))
    assert len(points) == 5 * 4
    for line in (points[i : i + 4] for i in range(0, 20, 4)):
        assert all(a[0] < b[0] and a[1] > b[1] for a, b in pairwise(line))


def test_story_bars_are_as_long_as_the_stages_are_large(results: dict[str, Any]) -> None:
    bars = [r for r in ElementTree.fromstring(charts.story(results, STS)).iter(f"{SVG}rect") if r.get("rx")]
    widths = [float(bar.get("width", "")) for bar in bars]
    sizes = [row["size_bytes"] for row in results["story"]]
    assert [w / widths[0] for w in widths] == pytest.approx([s / sizes[0] for s in sizes], abs=1e-4)


def test_labels_keep_clear_of_each_other() -> None:
    marks = [Box(x - 12, y - 12, x + 12, y + 12) for x, y in [(200, 200), (215, 202), (190, 215), (700, 60), (60, 380)]]
    bounds = Box(40, 40, 800, 400)
    labels = place(marks, [(180.0, 32.0)] * 5, marks, bounds)
    assert all(a.overlap(b) == 0 for a, b in combinations(labels, 2))
    assert all(label.overlap(mark) == 0 for label in labels for mark in marks)
    assert all(label.overlap(bounds) == pytest.approx(180 * 32) for label in labels)


def test_a_columns_name_ends_inside_the_drawing() -> None:
    plot = Box(56, 40, WIDTH - 4, 400)
    x, y = Scale(1, 10.1, plot.left, plot.right, log=True), Scale(0, 1, plot.bottom, plot.top)
    last = ElementTree.fromstring(grid(plot, x, y, [(3.0, "3×"), (10.0, "10×")])[-1])
    assert (last.text, last.get("text-anchor")) == ("10×", "middle")
    assert float(last.attrib["x"]) == WIDTH - 12 < x(10.0), "half of its letters from the edge"


@pytest.mark.parametrize(
    ("low", "high", "log"), [(1, 8.13, True), (0.9, 1.3, True), (80.9, 82.3, False), (0.9, 200, True)]
)
def test_ticks_are_few_and_inside(low: float, high: float, log: bool) -> None:
    scale = Scale.around([low, high], 0, 100, log=log)
    assert 3 <= len(scale.ticks()) <= 9
    assert all(0 <= scale(tick) <= 100 for tick in scale.ticks())
