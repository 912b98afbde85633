"""Draw quality against the bytes of a vector as one SVG, a line for each precision."""

from typing import NamedTuple

from benchmarks.report import svg
from benchmarks.report.results import Row, number, spearman
from benchmarks.report.svg import WIDTH, Box, Scale

_TICKS = tuple(2**power for power in range(15))


class Line(NamedTuple):
    """The points of one kind of vector: its name, its colour, and (bytes, quality, dimensions) by size."""

    name: str
    role: str
    points: list[tuple[float, float, int]]


def picture(results: Row) -> str:
    """Plot quality over bytes a vector on a logarithmic axis; empty text where nothing was measured."""
    label, path = _measure(results)
    drawn = [line for line in _lines(results, path) if line.points]
    if not drawn:
        return ""
    plot = Box(56, 40, WIDTH - 4, 430)
    sizes, values = zip(*((b, quality) for line in drawn for b, quality, _ in line.points), strict=True)
    x = Scale.around(sizes, plot.left + 10, plot.right - 40, log=True)
    y = Scale.around(values, plot.bottom, plot.top)
    body = svg.grid(plot, x, y, [(tick, str(tick)) for tick in _TICKS if x.low <= tick <= x.high])
    for line in drawn:
        body += _drawn(line, x, y)
    body.append(svg.text(4, 20, f"↑ {label}", "muted"))
    body.append(svg.text(4, plot.bottom + 66, _caption(results), "muted"))
    body.append(svg.text(plot.right, plot.bottom + 44, "bytes a vector, log →", "muted", "end"))
    summaries = [f"{n}: {', '.join(f'{q:.4g} at {d} dimensions, {b:g} bytes' for b, q, d in p)}" for n, _, p in drawn]
    return svg.framed("curve", 508, "Quality against bytes a vector", summaries, body)


def _measure(results: Row) -> tuple[str, tuple[str, ...]]:
    """Return the figure that stands for quality, in words and by its keys: the first STS file's, else agreement."""
    name = next((name for row in results["points"] for name in row["sts"]), None)
    if name is None:
        return "rank correlation of similar held-out pairs with the full vectors'", ("pair_correlation",)
    measure = spearman(name)
    return measure.label, measure.path


def _lines(results: Row, path: tuple[str, ...]) -> list[Line]:
    rows = results["points"]
    tried = {row["reduction"] for row in rows}
    best = "similarities" if "similarities" in tried else "pca"
    own, principal, cut = (
        [row for row in rows if row["reduction"] in (name, "none")] if name in tried else []
        for name in (best, "pca" if best != "pca" else "", "truncation")
    )
    kinds = [
        ("float32, first components", "muted", "float32", cut),
        ("float32, principal components", "muted", "float32", principal),
        ("float32", "teacher", "float32", own),
        ("int8", "accent", "int8", own),
        ("binary", "other", "binary", own),
    ]
    return [Line(name, role, _points(some, precision, path)) for name, role, precision, some in kinds]


def _points(rows: list[Row], precision: str, path: tuple[str, ...]) -> list[tuple[float, float, int]]:
    own = [(row["bytes"], number(row, *path), row["dim"]) for row in rows if row["precision"] == precision]
    return sorted((size, quality, dim) for size, quality, dim in own if quality is not None)


def _drawn(line: Line, x: Scale, y: Scale) -> list[str]:
    """Draw the line, its points with their dimensions, and its name below its middle, where curves leave room."""
    dots = [(x(size), y(quality)) for size, quality, _ in line.points]
    cut = line.role == "muted"
    body = [
        svg.path(dots, line.role, 1 if cut else 2),
        *(svg.circle(*dot, 2.5 if cut else 4, line.role) for dot in dots),
    ]
    if not cut:
        pairs = zip(dots, line.points, strict=True)
        body += [svg.text(left, top - 9, str(dim), "muted", "middle") for (left, top), (_, _, dim) in pairs]
    left, top = dots[len(dots) // 2]
    return [*body, svg.text(left + 10, top + (42 if cut else 22), line.name, line.role, bold=not cut)]


def _caption(results: Row) -> str:
    settings = results["settings"]
    turned = ", turned for int8 and binary" if settings.get("rotate") else ""
    whitened = f", whitened by {settings['whiten']:g}" if settings.get("whiten") else ""
    basis = "principal components" if settings.get("keep", "variance") == "variance" else "similarities kept"
    return f"numbers at the points: dimensions · {basis}{whitened}{turned}; the last point: none taken"
