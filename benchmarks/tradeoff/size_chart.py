"""Draw the trade-off of size as one SVG: shares of the teacher's quality against the bytes of a whole folder."""

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.report import svg
from benchmarks.report.numbers import percent, size
from benchmarks.report.results import Row, number, size_of, systems
from benchmarks.report.svg import WIDTH, Box, Dot, Scale, place
from benchmarks.tradeoff.table import PASSED, measure_label

_TICKS = (1, 2, 3, 5, 8, 13, 20, 30, 50, 91, 200, 500, 1000, 2000)  # megabytes
_MEGABYTE = 1e6
_RADIUS = 4.0


class Line(NamedTuple):
    """One kind of quality: its name, its colour, its strokes, and the key of its share in a row."""

    name: str
    role: str
    dashes: str
    key: str


def picture(results: Row) -> str:
    """Plot every row's shares over its bytes, on a logarithmic axis; empty text where nothing was measured."""
    shown = sorted((row for row in systems(results) if number(row, "share") is not None and size_of(row)), key=size_of)
    if len(shown) < 2:
        return ""
    lines = [
        Line(f"similarity: {measure_label(results)}", "accent", "", "share"),
        Line("retrieval: mean nDCG@10", "teacher", "5 4", "retrieval_share"),
    ]
    lines = [line for line in lines if any(number(row, line.key) is not None for row in shown)]
    plot = Box(56, 40, WIDTH - 4, 440)
    x = Scale.around([size_of(row) / _MEGABYTE for row in shown], plot.left + 10, plot.right - 20, log=True)
    y = Scale.around([100 * share for line in lines for _, share in _points(shown, line)], plot.bottom, plot.top)
    body = svg.grid(plot, x, y, [(tick, f"{tick} MB") for tick in _ticks(x)])
    dots = [[_dot(row, share, x, y) for row, share in _points(shown, line)] for line in lines]
    body += [svg.path(at, line.role, 2, line.dashes) for line, at in zip(lines, dots, strict=True)]
    taken = [box for at in dots for box in svg.along(at)]
    for line, at in zip(lines, dots, strict=True):
        body += [
            svg.circle(*dot, _RADIUS, _role(row, line.role))
            for dot, (row, _) in zip(at, _points(shown, line), strict=True)
        ]
    body += _names(shown, dots[0], taken, plot)
    body += _legend(lines, plot)
    return svg.framed("sizes", round(plot.bottom + 84), "Quality against bytes", _summaries(shown), body)


def _points(rows: Sequence[Row], line: Line) -> list[tuple[Row, float]]:
    return [(row, share) for row in rows if (share := number(row, line.key)) is not None]


def _dot(row: Row, share: float, x: Scale, y: Scale) -> Dot:
    return x(size_of(row) / _MEGABYTE), y(100 * share)


def _ticks(x: Scale) -> list[int]:
    return [tick for tick in _TICKS if x.low <= tick <= x.high]


def _names(rows: Sequence[Row], dots: Sequence[Dot], taken: Sequence[Box], plot: Box) -> list[str]:
    """Write the name of each row near its first point."""
    discs = [Box(left - _RADIUS, top - _RADIUS, left + _RADIUS, top + _RADIUS) for left, top in dots]
    names = [_name(row) for row in rows]
    boxes = place(discs, [(7.6 * len(name), 17.0) for name in names], [*taken, *discs], plot)
    drawn = []
    for row, name, disc, box in zip(rows, names, discs, boxes, strict=True):
        before = box.right < disc.left
        at, anchor = (box.right, "end") if before else (box.left, "start")
        drawn.append(svg.text(at, box.top + 13, name, _role(row, "accent"), anchor, bold=True))
    return drawn


def _legend(lines: Sequence[Line], plot: Box) -> list[str]:
    body = [svg.text(4, 20, "↑ share of the teacher's, %", "muted")]
    body.append(svg.text(plot.right, plot.bottom + 48, "bytes of the whole folder, log →", "muted", "end"))
    for place_, line in enumerate(lines):
        top = plot.bottom + 48 + 18 * place_
        body.append(svg.path([(4, top - 4), (34, top - 4)], line.role, 2, line.dashes))
        body.append(svg.text(42, top, line.name, "muted"))
    return body


def _name(row: Row) -> str:
    if row.get("precision") is None:
        return "teacher"
    made = str(row.get("size") or "all layers")
    precision = "" if row["precision"] == "int8" and row.get("size") else f", {row['precision']}"
    return made + precision + ("" if row.get("gate") == PASSED else ", gate missed")


def _role(row: Row, role: str) -> str:
    return "other" if row.get("precision") is not None and row.get("gate") != PASSED else role


def _summaries(rows: Sequence[Row]) -> list[str]:
    kinds = (("share", ""), ("retrieval_share", " of what it finds"))
    summaries = []
    for row in rows:
        shares = [percent(share, " ") + words for key, words in kinds if (share := number(row, key)) is not None]
        summaries.append(f"{_name(row)}: {size(row['size_bytes'])}, {', '.join(shares)}")
    return summaries
