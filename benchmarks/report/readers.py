"""What a report shows of readers alone: the picture of F1 and exact match, and how the teacher was chosen."""

from collections.abc import Sequence

from benchmarks.report import svg
from benchmarks.report.charts import role
from benchmarks.report.numbers import digits, fixed, plain, significant, size
from benchmarks.report.results import Row, number, system_label, systems
from benchmarks.report.svg import WIDTH, Box, Scale
from benchmarks.report.table import Column, Table

_BETWEEN, _KEY = 64, 26  # pixels between the two plots, and between the lines of the key
_F1, _EXACT = ("answers", "f1"), ("answers", "exact")
_SIZE, _RATE = ("size_bytes",), ("offline", "questions_per_second")


def picture(results: Row) -> str:
    """Plot F1 and exact match against size and questions a second; empty text where no system has all of them."""
    shown = [system for system in systems(results) if _is_whole(system)]
    colours = [role(system, systems(results)) for system in shown]
    if not shown:
        return ""
    half = (WIDTH - 56 - 4 - _BETWEEN) / 2
    left, right = Box(56, 40, 56 + half, 330), Box(56 + half + _BETWEEN, 40, WIDTH - 4, 330)
    body = [svg.text(4, 20, "↑ points, 0 to 100", "muted")]
    sizes, rates = [_figure(s, _SIZE) / 1e6 for s in shown], [_figure(s, _RATE) for s in shown]
    body += _plot(left, [*zip(shown, colours, sizes, strict=True)], "size on disk, MB, log →")
    body += _plot(right, [*zip(shown, colours, rates, strict=True)], "questions a second, log →")
    body += _key([*zip(shown, colours, strict=True)], 404)
    summaries = [f"{system_label(system)}: {_caption(system)}" for system in shown]
    title = "F1 and exact match against size and questions a second"
    return svg.framed("reader", 404 + _KEY * len(shown), title, summaries, body)


def tries(results: Row) -> Table:
    """Lay out the settings that a teacher was fine-tuned with to choose by, and what each gave."""
    columns = [
        Column("learning rate", lambda row: plain(row.get("learning_rate"))),
        Column("epochs", lambda row: plain(row.get("epochs"))),
        Column("F1, held-out questions", lambda row: fixed(row.get("f1"), 2)),
        Column("EM", lambda row: fixed(row.get("exact"), 2)),
    ]
    return Table(columns, (results.get("teacher") or {}).get("tries") or [])


def _is_whole(system: Row) -> bool:
    scored = all(number(system, *path) is not None for path in (_F1, _EXACT))
    return scored and all(number(system, *path) for path in (_SIZE, _RATE))


def _figure(system: Row, path: tuple[str, ...]) -> float:
    return number(system, *path) or 0.0


def _plot(plot: Box, points: Sequence[tuple[Row, str, float]], name: str) -> list[str]:
    """Draw both scores of each system, in its colour, over its value, numbered as in the key."""
    x = Scale.around([value for *_, value in points], plot.left, plot.right, log=True)
    y = Scale.around([_figure(s, path) for s, *_ in points for path in (_F1, _EXACT)], plot.bottom, plot.top)
    body = svg.grid(plot, x, y, [(tick, f"{tick:g}") for tick in x.ticks()])
    for index, (system, colour, value) in enumerate(points, 1):
        f1, exact = y(_figure(system, _F1)), y(_figure(system, _EXACT))
        body.append(svg.path([(x(value), f1), (x(value), exact)], "grid"))
        body.append(svg.circle(x(value), f1, 6, colour))
        body.append(svg.circle(x(value), exact, 6, colour, 0.12))
        body.append(svg.text(x(value), f1 - 12, str(index), colour, "middle", bold=True))
    return [*body, svg.text(plot.right, plot.bottom + 44, name, "muted", "end")]


def _key(shown: Sequence[tuple[Row, str]], top: int) -> list[str]:
    """Write what each number is, and its figures."""
    body = []
    for index, (system, colour) in enumerate(shown, 1):
        at = top + _KEY * (index - 1)
        body.append(svg.text(60, at, str(index), colour, "end", bold=True))
        body.append(svg.text(72, at, system_label(system), colour, bold=True))
        body.append(svg.text(WIDTH - 4, at, _caption(system), "muted", "end"))
    return body


def _caption(system: Row) -> str:
    scores = f"F1 {fixed(number(system, *_F1), 2)} · EM {fixed(number(system, *_EXACT), 2)}"
    parameters = number(system, "parameters")
    counted = [f"{significant(parameters / 1e6)} M parameters"] if parameters is not None else []
    return " · ".join([scores, *counted, size(_figure(system, _SIZE)), f"{digits(_figure(system, _RATE))} questions/s"])
