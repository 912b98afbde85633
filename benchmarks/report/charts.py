"""Draw a report's pictures as stand-alone SVG, light and dark in one; empty text where there is no data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

Row = dict[str, Any]

COLOURS = {  # role: (light, dark)
    "surface": ("#ffffff", "#16191d"),
    "ink": ("#1b1f24", "#e9ebee"),
    "muted": ("#5b6570", "#a0a9b4"),
    "grid": ("#e6e9ec", "#2c3239"),
    "other": ("#8b95a1", "#7d8894"),
    "teacher": ("#3c4650", "#c8ced6"),
    "accent": ("#1261c9", "#6fabff"),
}
_STS_NAMES = {"en-test": "STS benchmark test"}
_STAGE_NAMES = {"pca": "PCA", "quantize": "PyTorch int8", "fp32": "ONNX fp32", "fp16": "ONNX fp16", "int8": "ONNX int8"}
_WIDTH = 820


def number(row: Any, *path: str) -> float | None:
    """Follow ``path`` through nested mappings; None where it ends at anything but a finite number."""
    for part in path:
        row = row.get(part) if isinstance(row, dict) else None
    real = isinstance(row, int | float) and not isinstance(row, bool)
    return float(row) if real and math.isfinite(row) else None


def systems(results: Row) -> list[Row]:
    """Return the measured systems, the teacher first."""
    return (results.get("bench") or {}).get("systems") or []


def significant(value: float, digits: int = 3) -> str:
    """Write ``value`` to that many digits, never fewer than its whole ones: 0.312, 7.91, 1,234."""
    places = digits - 1 - (math.floor(math.log10(abs(value))) if value else 0)
    return f"{value:,.{max(0, places)}f}"


def stage_name(row: Row) -> str:
    """Name a stage of the story for a reader."""
    stage = str(row.get("stage") or "")
    return _STAGE_NAMES.get(stage, stage.capitalize())


@dataclass(frozen=True)
class Measure:
    """The one figure that stands for quality in a report."""

    sts: str | None
    """STS file whose Spearman x 100 it is; None for the mean cosine to the teacher."""

    @classmethod
    def choose(cls, results: Row) -> "Measure":
        """Take the first STS file that anything was scored on."""
        rows = [*systems(results), *(results.get("story") or [])]
        files = (f for row in rows for f in row.get("sts") or {} if number(row, "sts", f) is not None)
        return cls(next(files, None))

    @property
    def label(self) -> str:
        """Name the figure and its unit."""
        name = _STS_NAMES.get(self.sts or "", f"STS {self.sts}")
        return f"{name}, Spearman × 100" if self.sts else "mean cosine to the teacher"

    def of(self, row: Row) -> float | None:
        """Read the figure off a system or a stage; the teacher agrees with itself."""
        if self.sts:
            return number(row, "sts", self.sts)
        itself = "teacher" in (row.get("name"), row.get("stage"))
        return 1.0 if itself else number(row, "agreement", "cosine_mean")

    def text(self, value: float) -> str:
        """Write a value of the figure: 82.03, or 0.9874."""
        return f"{value:.2f}" if self.sts else f"{value:.4f}"


class Box(NamedTuple):
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)


@dataclass(frozen=True)
class Scale:
    """A map from values ``low..high`` to pixels ``start..stop``, linear or logarithmic."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], start: float, stop: float, log: bool = False) -> "Scale":
        """Leave a margin beyond the values, also where all are equal."""
        low, high = min(values), max(values)
        if log:
            factor = max((high / low) ** 0.06, 1.1)
            return cls(low / factor, high * factor, start, stop, log)
        margin = (high - low) * 0.12 or abs(high) * 0.01 or 1.0
        return cls(low - margin, high + margin, start, stop)

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Choose a handful of round values inside the range."""
        if self.log and self.high / self.low > 4:
            values = (digit * 10.0**power for power in range(-6, 9) for digit in (1, 2, 5))
            return [value for value in values if self.low <= value <= self.high]
        rough = (self.high - self.low) / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough)
        return [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def place(marks: Sequence[Box], sizes: list[tuple[float, float]], taken: list[Box], bounds: Box) -> list[Box]:
    """Set a label near each mark, clear of the others and of ``taken``; the last mark chooses first."""
    placed: list[Box] = []
    for (left, top, right, bottom), (width, height) in reversed([*zip(marks, sizes, strict=True)]):
        x, y = (left + right - width) / 2, (top + bottom - height) / 2
        options = []
        for gap in (5, 14, 26, 40, 58, 80, 106):
            after, before, below, above = right + gap, left - gap - width, bottom + gap, top - gap - height
            middles = [(after, y), (before, y), (x, above), (x, below)]
            corners = [(across, down) for across in (after, before) for down in (above, below)]
            options += [Box(a, b, a + width, b + height) for a, b in middles + corners]
        costs = [sum(o.overlap(b) for b in placed + taken) - 4 * o.overlap(bounds) for o in options]
        placed.append(min(zip(costs, options, strict=True), key=lambda pair: round(pair[0], 3))[1])
    return placed[::-1]


def quality_against_speed(results: Row) -> str:
    """Plot quality over throughput against the teacher; a circle's area is the size on disk."""
    measure = Measure.choose(results)
    shown = [s for s in systems(results) if number(s, "offline", "ratio") and measure.of(s) is not None]
    if not shown:
        return ""
    plot = Box(56, 40, _WIDTH - 4, 400)
    x = Scale.around([ratio for s in shown for ratio in _span(s)], plot.left, plot.right, log=True)
    y = Scale.around([measure.of(s) or 0.0 for s in shown], plot.bottom, plot.top)
    unit = 26 / math.sqrt(max(map(_size, shown)) or 1.0)
    discs, bars = zip(*(_marks(s, x, y(measure.of(s) or 0.0), unit) for s in shown), strict=True)
    texts = [(*_named(results, s), _caption(s, measure)) for s in shown]
    sizes = [(max(8.0 * len(name), 7.0 * len(caption)), 32.0) for name, _, caption in texts]
    body = _grid(plot, x, y, [(tick, f"{tick:g}×") for tick in x.ticks()])
    for point in zip(discs, bars, place(discs, sizes, [*discs, *bars], plot), texts, strict=True):
        body += _draw(*point)
    body.append(_text(4, 20, f"↑ {measure.label}", "muted"))
    body.append(_text(4, 448, "circle area: size on disk · bar: lowest to highest round", "muted"))
    body.append(_text(plot.right, 448, "throughput against the teacher, log →", "muted", "end"))
    summaries = [f"{name}: {caption}" for name, _, caption in texts]
    return _svg("quality-against-speed", 460, "Quality against speed", summaries, body)


def _span(system: Row) -> tuple[float, float, float]:
    ratio = number(system, "offline", "ratio") or 1.0
    low, high = (number(system, "offline", end) or ratio for end in ("ratio_min", "ratio_max"))
    return low, ratio, high


def _marks(system: Row, x: Scale, y: float, unit: float) -> tuple[Box, Box]:
    """Return what a system's circle and its bar over the rounds cover."""
    (low, at, high), radius = map(x, _span(system)), max(2.5, unit * _size(system) ** 0.5)
    return Box(at - radius, y - radius, at + radius, y + radius), Box(low, y - 4, high, y + 4)


def _caption(system: Row, measure: Measure) -> str:
    ratio, quality = significant(_span(system)[1]), measure.text(measure.of(system) or 0.0)
    return f"{ratio}× · {quality}" + (f" · {_megabytes(system)}" if _size(system) else "")


def _draw(disc: Box, bar: Box, label: Box, texts: tuple[str, str, str]) -> list[str]:
    """Draw a system's circle, range and label, with a leader where the label stands apart."""
    name, role, caption = texts
    x, y, radius = (disc.left + disc.right) / 2, (disc.top + disc.bottom) / 2, (disc.right - disc.left) / 2
    body = [_circle(x, y, radius, role, 0.16), _path([(bar.left, y), (bar.right, y)], role)]
    body += [_path([(end, bar.top), (end, bar.bottom)], role) for end in (bar.left, bar.right)]
    near = min(max(x, label.left), label.right), min(max(y, label.top), label.bottom)
    distance = math.dist(near, (x, y))
    if distance > radius + 12:
        edge = x + (near[0] - x) * radius / distance, y + (near[1] - y) * radius / distance
        body.append(_path([edge, near], "other", 1))
    anchor, at = ("end", label.right) if label.right < x else ("start", label.left)
    body.append(_text(at, label.top + 13, name, role, anchor, bold=True))
    return [*body, _text(at, label.top + 28, caption, "muted", anchor)]


def latency_by_length(results: Row) -> str:
    """Draw each system's median latency over the length of a text, both axes logarithmic."""
    lines = [(*_named(results, system), _latencies(system)) for system in systems(results)]
    lines = sorted((line for line in lines if line[2]), key=lambda line: line[2][-1][1], reverse=True)
    if not lines:
        return ""
    plot = Box(56, 40, _WIDTH - 318, 372)
    tokens = sorted({tokens for *_, line in lines for tokens, _ in line})
    x = Scale.around(tokens, plot.left, plot.right, log=True)
    y = Scale.around([ms for *_, line in lines for _, ms in line], plot.bottom, plot.top, log=True)
    body = _grid(plot, x, y, [(tick, f"{tick:g}") for tick in tokens])
    free = plot.top
    for name, role, line in lines:
        dots = [(x(tick), y(ms)) for tick, ms in line]
        free = max(dots[-1][1], free + 19)
        body.append(_path([(dots[-1][0] + 6, dots[-1][1]), (plot.right + 18, free)], "grid"))
        body.append(_path(dots, role, 2))
        body += [_circle(*dot, 3.5, role) for dot in dots]
        body.append(_text(plot.right + 66, free + 4, significant(line[-1][1]), "muted", "end"))
        body.append(_text(plot.right + 74, free + 4, name, role, bold=True))
    body.append(_text(4, 20, "↑ p50 latency of one text, ms, log", "muted"))
    body.append(_text(plot.right, 420, "tokens in the text, log →", "muted", "end"))
    summaries = [f"{n}: {', '.join(f'{significant(ms)} ms at {t:g}' for t, ms in line)}" for n, _, line in lines]
    return _svg("latency-by-length", max(432, round(free) + 16), "Latency by length of the text", summaries, body)


def _latencies(system: Row) -> list[tuple[float, float]]:
    pairs = [(number(row, "tokens"), number(row, "latency_ms_p50")) for row in system.get("by_length") or []]
    return sorted((tokens, ms) for tokens, ms in pairs if tokens and ms)


def story(results: Row) -> str:
    """Draw the size of every stage as a bar, from the teacher to the artifact, its quality beside it."""
    measure = Measure.choose(results)
    stages = [row for row in results.get("story") or [] if _size(row)]
    body = [_text(4, 20, "size on disk", "muted"), _text(_WIDTH - 4, 20, measure.label, "muted", "end")]
    for i, row in enumerate(stages):
        role = "teacher" if i == 0 else "accent" if row is stages[-1] else "other"
        top, width, quality = 54 + 54 * i, 640 * _size(row) / max(map(_size, stages)), measure.of(row)
        body.append(_text(4, top, stage_name(row), role, bold=True))
        body.append(_text(116, top, _short(str(row.get("what") or ""), 90), "muted"))
        body.append(f'<rect class="f-{role}" x="4" y="{top + 9}" width="{width:.2f}" height="14" rx="2"/>')
        body.append(_text(12 + width, top + 21, _megabytes(row), "ink"))
        if quality is not None:
            body.append(_text(_WIDTH - 4, top + 21, measure.text(quality), role, "end", bold=True))
    summaries = [f"{stage_name(row)}: {_megabytes(row)}" for row in stages]
    return _svg("story", 46 + 54 * len(stages), "Size and quality by stage", summaries, body) if stages else ""


def _size(row: Row) -> float:
    return number(row, "size_bytes") or 0.0


def _megabytes(row: Row) -> str:
    return f"{significant(_size(row) / 1e6)} MB"


def _named(results: Row, system: Row) -> tuple[str, str]:
    """Return a system's label and the colour of its part: teacher, artifact or other."""
    shown = systems(results)
    role = "teacher" if system is shown[0] else "accent" if system is shown[-1] else "other"
    return _short(str(system.get("label") or system.get("name") or ""), 30), role


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def _grid(plot: Box, x: Scale, y: Scale, columns: list[tuple[float, str]]) -> list[str]:
    """Rule the plot: a line and a value for each row, a tick and a name for each column."""
    body = []
    for tick in y.ticks():
        body.append(_path([(plot.left, y(tick)), (plot.right, y(tick))], "grid", 1))
        body.append(_text(plot.left - 8, y(tick) + 4, f"{tick:.6g}", "muted", "end"))
    body.append(_path([(plot.left, plot.bottom), (plot.right, plot.bottom)], "other", 1))
    for tick, name in columns:
        body.append(_path([(x(tick), plot.bottom), (x(tick), plot.bottom + 5)], "other", 1))
        body.append(_text(x(tick), plot.bottom + 20, name, "muted", "middle"))
    return body


def _path(points: list[tuple[float, float]], role: str, width: float = 1.5) -> str:
    corners = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return f'<polyline class="s-{role}" points="{corners}" fill="none" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, role: str, anchor: str = "start", bold: bool = False) -> str:
    colour, weight = role.replace("other", "ink"), 600 if bold else 400
    place = f'x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text class="f-{colour} s-surface" {place}>{escape(text)}</text>'


def _circle(x: float, y: float, radius: float, role: str, opacity: float = 1) -> str:
    place = f'cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"'
    return f'<circle class="f-{role} s-{role}" {place} fill-opacity="{opacity}"/>'


def _svg(name: str, height: int, title: str, summaries: list[str], body: list[str]) -> str:
    """Frame ``body`` with a title, the figures in words, and both palettes."""
    drawn, pairs = "\n".join(body), COLOURS.items()
    day, night = ("".join(f".f-{r}{{fill:{c[i]}}}.s-{r}{{stroke:{c[i]}}}" for r, c in pairs) for i in (0, 1))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"
 aria-labelledby="{name}-title {name}-desc" font-family="system-ui,-apple-system,Segoe UI,sans-serif"
 font-size="12.5" style="font-variant-numeric:tabular-nums">
<title id="{name}-title">{escape(title)}</title>
<desc id="{name}-desc">{escape("; ".join(summaries))}</desc>
<style>text{{paint-order:stroke;stroke-width:4px}}{day}@media (prefers-color-scheme:dark){{{night}}}</style>
<rect class="f-surface" width="{_WIDTH}" height="{height}"/>
{drawn}
</svg>
"""
