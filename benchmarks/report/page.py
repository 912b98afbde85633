"""Show what a run measured: one self-contained HTML page, and a table for the terminal."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Template
from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.report import charts
from benchmarks.report.charts import Measure, Row, number, significant, stage_name, systems
from benchmarks.report.limit_table import longest
from compressor.core.files import replace_text

MISSING = "–"
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Gains:
    """What the last system has over the teacher; None for what was not measured on both."""

    smaller: float | None
    """Teacher's size over the artifact's."""
    faster: float | None
    """Median over the rounds of the artifact's texts a second over the teacher's."""
    sooner: float | None
    """Teacher's p50 latency of one text over the artifact's."""
    kept: float | None
    """Share of the teacher's quality: a ratio of Spearman correlations, or the mean cosine itself."""

    @classmethod
    def of(cls, results: Row) -> "Gains":
        """Compare the last system with the first, or the last stage where no system was measured."""
        rows = systems(results) or results.get("story") or []
        if len(rows) < 2:
            return cls(None, None, None, None)
        teacher, artifact, measure = rows[0], rows[-1], Measure.choose(results)
        return cls(
            smaller=_over(number(teacher, "size_bytes"), number(artifact, "size_bytes")),
            faster=number(artifact, "offline", "ratio"),
            sooner=_over(_latency(teacher), _latency(artifact)),
            kept=_over(measure.of(artifact), measure.of(teacher)),
        )

    def headline(self, measure: Measure) -> str:
        """Say the gains in one line, leaving out what was not measured; empty where nothing was."""
        parts = [gain(self.smaller, "smaller", "larger"), gain(self.faster, "faster", "slower")]
        if self.kept is not None and measure.sts:
            parts.append(f"{100 * self.kept:.1f}\N{NO-BREAK SPACE}% of the teacher's quality")
        elif self.kept is not None:
            parts.append(f"cosine {self.kept:.3f} to the teacher")
        return ", ".join(part for part in parts if part)


def write_report(results: dict[str, Any], path: Path) -> None:
    """Write the page for ``results``; nothing on it is loaded from anywhere."""
    replace_text(path, template("report.html.j2").render(_context(results)))


def print_table(results: dict[str, Any], console: Console) -> None:
    """Print one row a system, 80 columns wide."""
    measure = Measure.choose(results)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("system", overflow="fold")
    for column in ("size MB", "quality", "texts/s", "to teacher", "p50/p99 ms", "peak MB"):
        table.add_column(column, justify="right", overflow="fold", min_width=len(column.split()[0]))
    for system in systems(results):
        table.add_row(*map(Text, _cells(system, measure)))
    console.print(table)
    console.print(Text(f"quality: {measure.label}; to teacher: median [lowest..highest] round"), style="dim")
    bench = results.get("bench") or {}
    if a_a := bench.get("a_a"):
        line = f"A/A: {a_a.get('system')} against itself: {itself(a_a.get('offline'))}, texts/s"
        console.print(Text(line, style="dim"))
    if limit := bench.get("limit"):
        rows = limit.get("by_length") or []
        for name in (rows[0].get("of_peak") or {}) if rows else ():
            shares = [f"{percent(number(row, 'of_peak', name))} at {row.get('tokens')}" for row in rows]
            console.print(Text(f"of the {name} peak: {', '.join(shares)} tokens", style="dim"))


def _cells(system: Row, measure: Measure) -> list[str]:
    quality, latency = measure.of(system), system.get("single_stream") or {}
    return [
        str(system.get("name") or system.get("label") or MISSING),
        megabytes(system.get("size_bytes")),
        MISSING if quality is None else measure.text(quality),
        count(number(system, "offline", "texts_per_second")),
        ratio_range(system.get("offline"), to=".."),
        f"{digits(latency.get('latency_ms_p50'))}/{digits(latency.get('latency_ms_p99'))}",
        megabytes(system.get("peak_memory_bytes")),
    ]


def digits(value: Any) -> str:
    """Write a measured figure to three digits."""
    return MISSING if (figure := _figure(value)) is None else significant(figure)


def megabytes(value: Any) -> str:
    """Write bytes in units of 10^6."""
    return MISSING if (figure := _figure(value)) is None else significant(figure / 1e6)


def count(value: Any) -> str:
    """Write a whole number, thousands apart."""
    return MISSING if (figure := _figure(value)) is None else f"{figure:,.0f}"


def duration(value: Any) -> str:
    """Write seconds, or minutes from two on."""
    if (figure := _figure(value)) is None:
        return MISSING
    return f"{figure / 60:.1f} min" if figure >= 120 else f"{significant(figure)} s"


def fixed(value: Any, places: int) -> str:
    """Write a figure to ``places`` decimals."""
    return MISSING if (figure := _figure(value)) is None else f"{figure:.{places}f}"


def percent(value: Any) -> str:
    """Write a share as per cent."""
    return MISSING if (figure := _figure(value)) is None else f"{100 * figure:.1f}\N{NO-BREAK SPACE}%"


def plain(value: Any) -> str:
    """Write a figure of any magnitude: 0.9987, 12, 3.1e-07."""
    return MISSING if (figure := _figure(value)) is None else f"{figure:.6g}"


def ratio_range(offline: Any, to: str = "–") -> str:
    """Write the median ratio to the teacher and its range over the rounds: 8.13× [7.95–8.31]."""
    ratio, low, high = (number(offline, key) for key in ("ratio", "ratio_min", "ratio_max"))
    if ratio is None:
        return MISSING
    if low is None or high is None or low == high:
        return f"{ratio:.2f}×"
    return f"{ratio:.2f}× [{low:.2f}{to}{high:.2f}]"


def itself(row: Any) -> str:
    """Write what a system's ratio to itself was, and how sure that is: 1.01× [0.98–1.03], 97 % sure."""
    values = [number(row, key) for key in ("ratio", "low", "high", "confidence")]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return MISSING
    ratio, low, high, confidence = known
    return f"{ratio:.2f}× [{low:.2f}–{high:.2f}], {100 * confidence:.0f}\N{NO-BREAK SPACE}% sure"


def as_toml(section: dict[str, Any], path: tuple[str, ...] = (), item: bool = False) -> str:
    """Write a recipe as TOML, an unset field as a comment; ``item``: the section is one of a list."""
    lists = {key: value for key, value in section.items() if _is_sections(value)}
    scalars = {key: value for key, value in section.items() if not isinstance(value, dict) and key not in lists}
    name = f"[{'.'.join(path)}]"
    lines = [f"[{name}]" if item else name] if path and (scalars or item) else []
    for key, value in scalars.items():
        lines.append(f"# {key}: not set" if value is None else f"{key} = {json.dumps(value, ensure_ascii=False)}")
    inner = [as_toml(value, (*path, key)) for key, value in section.items() if isinstance(value, dict)]
    inner += [as_toml(entry, (*path, key), item=True) for key, value in lists.items() for entry in value]
    return "\n\n".join(part for part in ("\n".join(lines), *inner) if part)


def _is_sections(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(entry, dict) for entry in value)


def _figure(value: Any) -> float | None:
    return number({"value": value}, "value")


def _over(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _latency(row: Row) -> float | None:
    return number(row, "single_stream", "latency_ms_p50")


def gain(factor: float | None, more: str, less: str) -> str:
    """Word a factor: 8.1× faster, or 1.3× slower for 0.77."""
    if not factor or factor < 0:
        return ""
    amount, word = (factor, more) if factor >= 1 else (1 / factor, less)
    return f"{amount:.1f}× {word}" if amount < 99.95 else f"{amount:,.0f}× {word}"


@cache
def template(name: str) -> Template:
    """Open one of the pages, with what writes its figures."""
    loader = FileSystemLoader(_TEMPLATES)
    page = Environment(
        loader=loader, autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters.update(_filters())
    return page.get_template(name)


def _filters() -> dict[str, Callable[..., str]]:
    named = (digits, megabytes, count, duration, fixed, itself, percent, plain, ratio_range, stage_name)
    return {function.__name__: function for function in named}


def _context(results: Row) -> dict[str, Any]:
    """Gather what the template shows; it decides nothing but what to leave out."""
    measure, gains, rows = Measure.choose(results), Gains.of(results), systems(results)
    pictures = (charts.quality_against_speed, charts.latency_by_length, charts.story)
    return shared(results) | {
        "measure": measure,
        "gains": gains,
        "headline": gains.headline(measure),
        "charts": {draw.__name__: Markup(draw(results)) for draw in pictures},
        "sts_files": _keys(row.get("sts") for row in [*rows, *(results.get("story") or [])]),
        "longest": longest((results.get("bench") or {}).get("limit") or {}),
        "batch_sizes": _keys((row.get("offline") or {}).get("by_batch_size") for row in rows),
    }


def shared(results: Row) -> dict[str, Any]:
    """Gather what the pages of all tasks show."""
    rows, verify = systems(results), results.get("verify") or []
    return {
        "results": results,
        "systems": rows,
        "teacher": rows[0] if rows else {},
        "artifact": rows[-1] if rows else {},
        "judged": [
            row
            for row in verify
            if row.get("passed") is False or (number(row, "bar") is not None and not row.get("off"))
        ],
        "off": [row for row in verify if row.get("off")],
        "failed": [row for row in verify if row.get("passed") is False],
        "colours": charts.COLOURS,
        "operators": _operators(results.get("graphs") or {}),
        "recipe": as_toml(results.get("recipe") or {}),
    }


def _keys(rows: Iterable[Row | None]) -> list[str]:
    """Return every key of ``rows`` once, in the order they are met."""
    return list(dict.fromkeys(key for row in rows for key in row or {}))


def _operators(graphs: dict[str, dict[str, int]]) -> list[tuple[str, list[int]]]:
    """Return (operator, its count in each graph), the most frequent first."""
    rows = [(name, [(graph or {}).get(name) or 0 for graph in graphs.values()]) for name in _keys(graphs.values())]
    return sorted(rows, key=lambda row: (-max(row[1]), row[0]))
