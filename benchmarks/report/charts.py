"""Draw a report's pictures as stand-alone SVG, light and dark in one; empty text where there is no data."""

import math
from collections.abc import Sequence

from benchmarks.report import svg
from benchmarks.report.numbers import significant, size
from benchmarks.report.results import Measure, Row, number, ratio_of, size_of, stage_name, system_label, systems
from benchmarks.report.svg import WIDTH, Box, Scale


def quality_against_speed(results: Row, measure: Measure) -> str:
    """Plot quality over throughput against the teacher; a circle's area is the size on disk."""
    shown = [s for s in systems(results) if number(s, "offline", "ratio") and measure.of(s) is not None]
    if not shown:
        return ""
    plot = Box(56, 40, WIDTH - 4, 400)
    x = Scale.around([ratio for s in shown for ratio in ratio_of(s)], plot.left, plot.right, log=True)
    y = Scale.around([measure.of(s) or 0.0 for s in shown], plot.bottom, plot.top)
    unit = 26 / math.sqrt(max(map(size_of, shown)) or 1.0)
    discs, bars = zip(*(disc_and_bar(s, x, y(measure.of(s) or 0.0), unit) for s in shown), strict=True)
    texts = [(*_named(results, s), _caption(s, measure)) for s in shown]
    sizes = [(max(8.0 * len(name), 7.0 * len(caption)), 32.0) for name, _, caption in texts]
    body = svg.grid(plot, x, y, [(tick, f"{tick:g}×") for tick in x.ticks()])
    for point in zip(discs, bars, svg.place(discs, sizes, [*discs, *bars], plot), texts, strict=True):
        body += svg.labelled(*point)
    body.append(svg.text(4, 20, f"↑ {measure.label}", "muted"))
    body.append(svg.text(4, 448, "circle area: size on disk · bar: lowest to highest round", "muted"))
    body.append(svg.text(plot.right, 448, "throughput against the teacher, log →", "muted", "end"))
    summaries = [f"{name}: {caption}" for name, _, caption in texts]
    return svg.framed("quality-against-speed", 460, "Quality against speed", summaries, body)


def disc_and_bar(system: Row, x: Scale, y: float, unit: float) -> tuple[Box, Box]:
    """Return what a system's circle and its bar over the rounds cover."""
    (low, at, high), radius = map(x, ratio_of(system)), max(2.5, unit * size_of(system) ** 0.5)
    return Box(at - radius, y - radius, at + radius, y + radius), Box(low, y - 4, high, y + 4)


def _caption(system: Row, measure: Measure) -> str:
    ratio, quality = significant(ratio_of(system)[1]), measure.text(measure.of(system) or 0.0)
    return f"{ratio}× · {quality}" + (f" · {size(system['size_bytes'])}" if size_of(system) else "")


def latency_by_length(results: Row, one: str = "text") -> str:
    """Draw each system's median latency over the length of a text, both axes logarithmic; ``one``: what a text is."""
    lines = [(*_named(results, system), _latencies(system)) for system in systems(results)]
    lines = sorted((line for line in lines if line[2]), key=lambda line: line[2][-1][1], reverse=True)
    if not lines:
        return ""
    plot = Box(56, 40, WIDTH - 318, 372)
    tokens = sorted({tokens for *_, line in lines for tokens, _ in line})
    x = Scale.around(tokens, plot.left, plot.right, log=True)
    y = Scale.around([ms for *_, line in lines for _, ms in line], plot.bottom, plot.top, log=True)
    body = svg.grid(plot, x, y, [(tick, f"{tick:g}") for tick in tokens])
    free = plot.top
    for name, colour, line in lines:
        dots = [(x(tick), y(ms)) for tick, ms in line]
        free = max(dots[-1][1], free + 19)
        body.append(svg.path([(dots[-1][0] + 6, dots[-1][1]), (plot.right + 18, free)], "grid"))
        body.append(svg.path(dots, colour, 2))
        body += [svg.circle(*dot, 3.5, colour) for dot in dots]
        body.append(svg.text(plot.right + 66, free + 4, significant(line[-1][1]), "muted", "end"))
        body.append(svg.text(plot.right + 74, free + 4, name, colour, bold=True))
    body.append(svg.text(4, 20, f"↑ p50 latency of one {one}, ms, log", "muted"))
    body.append(svg.text(plot.right, 420, f"tokens in the {one}, log →", "muted", "end"))
    summaries = [f"{n}: {', '.join(f'{significant(ms)} ms at {t:g}' for t, ms in line)}" for n, _, line in lines]
    height = max(432, round(free) + 16)
    return svg.framed("latency-by-length", height, f"Latency by length of the {one}", summaries, body)


def _latencies(system: Row) -> list[tuple[float, float]]:
    pairs = [(number(row, "tokens"), number(row, "latency_ms_p50")) for row in system.get("by_length") or []]
    return sorted((tokens, ms) for tokens, ms in pairs if tokens and ms)


def story(results: Row, measure: Measure | None) -> str:
    """Draw the size of every stage as a bar, from the teacher to the artifact, its quality beside it."""
    stages = [row for row in results.get("story") or [] if size_of(row)]
    if not stages:
        return ""
    body = [svg.text(4, 20, "size on disk", "muted")]
    if measure:
        body.append(svg.text(WIDTH - 4, 20, measure.label, "muted", "end"))
    for i, row in enumerate(stages):
        colour = role(row, stages)
        top, width = 54 + 54 * i, 640 * size_of(row) / max(map(size_of, stages))
        body.append(svg.text(4, top, stage_name(row), colour, bold=True))
        body.append(svg.text(116, top, svg.shortened(str(row.get("what") or ""), 90), "muted"))
        body.append(svg.bar(4, top + 9, width, colour))
        body.append(svg.text(12 + width, top + 21, size(row.get("size_bytes")), "ink"))
        quality = measure.of(row) if measure else None
        if measure and quality is not None:
            body.append(svg.text(WIDTH - 4, top + 21, measure.text(quality), colour, "end", bold=True))
    summaries = [f"{stage_name(row)}: {size(row['size_bytes'])}" for row in stages]
    return svg.framed("story", 46 + 54 * len(stages), "Size and quality by stage", summaries, body)


def _named(results: Row, system: Row) -> tuple[str, str]:
    """Return a system's label and the colour of its part."""
    shown = systems(results)
    return svg.shortened(system_label(system), 30), role(system, shown)


def role(row: Row, rows: Sequence[Row]) -> str:
    """Return the colour of a row's part among the others: the first is the teacher, the last the artifact."""
    return "teacher" if row is rows[0] else "accent" if row is rows[-1] else "other"
