"""Draw readers: F1 and exact match against size, and against questions a second, as stand-alone SVG."""

from collections.abc import Callable, Sequence

from benchmarks.report.charts import (
    _WIDTH,
    Box,
    Row,
    Scale,
    _circle,
    _grid,
    _path,
    _svg,
    _text,
    number,
    significant,
    systems,
)

_BETWEEN, _KEY = 64, 26  # pixels between the two plots, and between the lines of the key


def picture(results: Row) -> str:
    """Plot every system of a run; empty text where there is none. The teacher is first, the artifact last."""
    shown = [system for system in systems(results) if number(system, "answers", "f1") is not None]
    if not shown:
        return ""
    half = (_WIDTH - 56 - 4 - _BETWEEN) / 2
    left, right = Box(56, 40, 56 + half, 330), Box(56 + half + _BETWEEN, 40, _WIDTH - 4, 330)
    points = [number(s, "answers", name) or 0.0 for s in shown for name in ("f1", "exact")]
    body = [_text(4, 20, "↑ points, 0 to 100", "muted")]
    sides: list[tuple[Box, Callable[[Row], float], str]] = [
        (left, lambda s: (number(s, "size_bytes") or 0.0) / 1e6, "size on disk, MB, log →"),
        (right, lambda s: number(s, "offline", "questions_per_second") or 0.0, "questions a second, log →"),
    ]
    for plot, of, name in sides:
        x = Scale.around([of(s) for s in shown], plot.left, plot.right, log=True)
        y = Scale.around(points, plot.bottom, plot.top)
        body += _grid(plot, x, y, [(tick, f"{tick:g}") for tick in x.ticks()])
        for index, system in enumerate(shown):
            body += _marks(system, index, len(shown), x(of(system)), y)
        body.append(_text(plot.right, plot.bottom + 44, name, "muted", "end"))
    body += _key(shown, 404)
    summaries = [_said(system) for system in shown]
    return _svg(
        "reader", 404 + _KEY * len(shown), "F1 and exact match against size and questions a second", summaries, body
    )


def _marks(system: Row, index: int, count: int, x: float, y: Scale) -> list[str]:
    f1, exact = (y(number(system, "answers", name) or 0.0) for name in ("f1", "exact"))
    role = _role(index, count)
    return [
        _path([(x, f1), (x, exact)], "grid"),
        _circle(x, f1, 6, role),
        _circle(x, exact, 6, role, 0.12),
        _text(x, f1 - 12, str(index + 1), role, "middle", bold=True),
    ]


def _key(shown: Sequence[Row], top: int) -> list[str]:
    body = []
    for index, system in enumerate(shown):
        role, at = _role(index, len(shown)), top + _KEY * index
        body.append(_text(60, at, str(index + 1), role, "end", bold=True))
        body.append(_text(72, at, str(system.get("label") or system.get("name")), role, bold=True))
        body.append(_text(_WIDTH - 4, at, _figures(system), "muted", "end"))
    return body


def _figures(system: Row) -> str:
    million = significant((number(system, "parameters") or 0.0) / 1e6)
    size, speed = (number(system, "size_bytes") or 0.0) / 1e6, number(system, "offline", "questions_per_second") or 0.0
    f1, exact = (number(system, "answers", name) or 0.0 for name in ("f1", "exact"))
    return (
        f"F1 {f1:.2f} · EM {exact:.2f} · {million} M parameters · {significant(size)} MB · "
        f"{significant(speed)} questions/s"
    )


def _said(system: Row) -> str:
    return f"{system.get('label') or system.get('name')}: {_figures(system)}"


def _role(index: int, count: int) -> str:
    return "teacher" if index == 0 else "accent" if index == count - 1 else "other"
