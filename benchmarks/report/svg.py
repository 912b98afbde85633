"""Draw stand-alone SVG, light and dark in one: scales, places of labels, and the marks that pictures are made of."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

COLOURS = {  # role: (light, dark)
    "surface": ("#ffffff", "#16191d"),
    "ink": ("#1b1f24", "#e9ebee"),
    "muted": ("#5b6570", "#a0a9b4"),
    "grid": ("#e6e9ec", "#2c3239"),
    "other": ("#8b95a1", "#7d8894"),
    "teacher": ("#3c4650", "#c8ced6"),
    "accent": ("#1261c9", "#6fabff"),
}
WIDTH = 820
_HALF_LETTER = 4.0  # pixels, at most
Dot = tuple[float, float]


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


def along(line: list[Dot]) -> list[Box]:
    """Return small boxes all along a line, for labels to keep clear of."""
    boxes = []
    for (left, top), (right, bottom) in itertools.pairwise(line):
        steps = max(1, round(math.dist((left, top), (right, bottom)) / 12))
        points = [(left + (right - left) * i / steps, top + (bottom - top) * i / steps) for i in range(steps + 1)]
        boxes += [Box(a - 3, b - 3, a + 3, b + 3) for a, b in points]
    return boxes


def shortened(text: str, limit: int) -> str:
    """Cut a text that is longer than ``limit`` letters."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def grid(plot: Box, x: Scale, y: Scale, columns: Sequence[tuple[float, str]]) -> list[str]:
    """Rule the plot: a line and a value for each row, a tick and a name for each column."""
    body = []
    for tick in y.ticks():
        body.append(path([(plot.left, y(tick)), (plot.right, y(tick))], "grid", 1))
        body.append(text(plot.left - 8, y(tick) + 4, f"{tick:.6g}", "muted", "end"))
    body.append(path([(plot.left, plot.bottom), (plot.right, plot.bottom)], "other", 1))
    for tick, name in columns:
        body.append(path([(x(tick), plot.bottom), (x(tick), plot.bottom + 5)], "other", 1))
        inside = min(x(tick), WIDTH - _HALF_LETTER * len(name))
        body.append(text(inside, plot.bottom + 20, name, "muted", "middle"))
    return body


def path(points: Sequence[Dot], role: str, width: float = 1.5, dashes: str = "") -> str:
    """Draw a line through points; ``dashes``: lengths of strokes and gaps."""
    corners = " ".join(f"{x:.2f},{y:.2f}" for x, y in points)
    pattern = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline{pattern} class="s-{role}" points="{corners}" fill="none" stroke-width="{width}"/>'


def text(x: float, y: float, text: str, role: str, anchor: str = "start", bold: bool = False) -> str:
    """Write a text; ``anchor``: which of its ends, or its middle, stands at ``x``."""
    colour, weight = role.replace("other", "ink"), 600 if bold else 400
    place = f'x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text class="f-{colour} s-surface" {place}>{escape(text)}</text>'


def circle(x: float, y: float, radius: float, role: str, opacity: float = 1) -> str:
    """Draw a circle, its rim always whole."""
    place = f'cx="{x:.2f}" cy="{y:.2f}" r="{radius:.2f}"'
    return f'<circle class="f-{role} s-{role}" {place} fill-opacity="{opacity}"/>'


def labelled(disc: Box, bar: Box, label: Box, texts: tuple[str, str, str]) -> list[str]:
    """Draw a circle, its range and its label, with a leader where that stands apart; ``texts``: name, role, caption."""
    name, role, caption = texts
    x, y, radius = (disc.left + disc.right) / 2, (disc.top + disc.bottom) / 2, (disc.right - disc.left) / 2
    body = [circle(x, y, radius, role, 0.16), path([(bar.left, y), (bar.right, y)], role)]
    body += [path([(end, bar.top), (end, bar.bottom)], role) for end in (bar.left, bar.right)]
    near = min(max(x, label.left), label.right), min(max(y, label.top), label.bottom)
    distance = math.dist(near, (x, y))
    if distance > radius + 12:
        edge = x + (near[0] - x) * radius / distance, y + (near[1] - y) * radius / distance
        body.append(path([edge, near], "other", 1))
    anchor, at = ("end", label.right) if label.right < x else ("start", label.left)
    body.append(text(at, label.top + 13, name, role, anchor, bold=True))
    return [*body, text(at, label.top + 28, caption, "muted", anchor)]


def bar(left: float, top: float, width: float, role: str) -> str:
    """Draw a bar 14 pixels high."""
    return f'<rect class="f-{role}" x="{left:g}" y="{top:g}" width="{width:.2f}" height="14" rx="2"/>'


def framed(name: str, height: int, title: str, summaries: Sequence[str], body: Sequence[str]) -> str:
    """Frame ``body`` with a title, the figures in words, and both palettes."""
    drawn, pairs = "\n".join(body), COLOURS.items()
    day, night = ("".join(f".f-{r}{{fill:{c[i]}}}.s-{r}{{stroke:{c[i]}}}" for r, c in pairs) for i in (0, 1))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"
 aria-labelledby="{name}-title {name}-desc" font-family="system-ui,-apple-system,Segoe UI,sans-serif"
 font-size="12.5" style="font-variant-numeric:tabular-nums">
<title id="{name}-title">{escape(title)}</title>
<desc id="{name}-desc">{escape("; ".join(summaries))}</desc>
<style>text{{paint-order:stroke;stroke-width:4px}}{day}@media (prefers-color-scheme:dark){{{night}}}</style>
<rect class="f-surface" width="{WIDTH}" height="{height}"/>
{drawn}
</svg>
"""
