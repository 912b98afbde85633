"""Show what a run of any task measured: one self-contained HTML page, and a table for the terminal."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Template
from markupsafe import Markup
from rich.console import Console
from rich.text import Text

from benchmarks.report import charts, limits, readers, tables
from benchmarks.report.gains import Gains, cards
from benchmarks.report.numbers import count, digits, duration, fixed, itself, percent, plain
from benchmarks.report.results import Row, number, systems
from benchmarks.report.svg import COLOURS
from benchmarks.report.table import Table
from benchmarks.report.tasks import Picture, TaskPage, page_of
from compressor.core.files import replace_text

_NOISE = 0.1  # of a system against itself
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(results: dict[str, Any], path: Path) -> None:
    """Write the page for ``results``; nothing on it is loaded from anywhere."""
    replace_text(path, _template("report.html.j2").render(_context(results)))


def print_table(results: dict[str, Any], console: Console) -> None:
    """Print one row a system, 80 columns wide, without columns that have no figure; below it what the figures mean."""
    task, bench = page_of(results), results.get("bench") or {}
    tables.printed(results, task).filled().print(console)
    scales = [f"{measure.name}: {measure.scale}" for measure in task.measures(results)]
    lines = ["; ".join([*scales, "to teacher: median [lowest..highest] round"])]
    if a_a := bench.get("a_a"):
        lines.append(f"A/A: {a_a.get('system')} against itself: {itself(a_a.get('offline'))}, {task.unit}/s")
        if _disturbed(bench):
            lines.append("the machine was not quiet: measure again before these figures are used")
    rows = (bench.get("limit") or {}).get("by_length") or []
    for name in (rows[0].get("of_peak") or {}) if rows else ():
        shares = [f"{percent(number(row, 'of_peak', name))} at {row.get('tokens')}" for row in rows]
        lines.append(f"of the {name} peak: {', '.join(shares)} tokens")
    for line in lines:
        console.print(Text(line, style="dim"))


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


@cache
def _template(name: str) -> Template:
    """Open a page, with what writes its figures."""
    loader = FileSystemLoader(_TEMPLATES)
    page = Environment(
        loader=loader, autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters.update(_filters())
    return page.get_template(name)


def _filters() -> dict[str, Callable[..., str]]:
    named = (count, digits, duration, fixed, itself, plain)
    return {function.__name__: function for function in named}


def _context(results: Row) -> dict[str, Any]:
    """Gather what the template shows; it decides nothing but what to leave out."""
    task, rows, bench = page_of(results), systems(results), results.get("bench") or {}
    measure = next(iter(task.measures(results)), None)
    gains, limit = Gains.of(results, measure), bench.get("limit") or {}
    return {
        "results": results,
        "task": task,
        "artifact": rows[-1] if rows else {},
        "headline": gains.headline(measure),
        "meaning": task.meaning(results),
        "kept": gains.kept,
        "cards": list(cards(results, task)),
        "systems": tables.measured(results, task),
        "pictures": _pictures(results, task),
        "details": _details(results, task),
        "served": tables.served(results, task),
        "limit": limits.limit(limit, of_peak=True) if limit.get("by_length") else None,
        "stages": tables.story(results, task),
        "stages_picture": _drawn(Picture(charts.story(results, measure), "What each stage saves, and what it costs")),
        "tries": readers.tries(results),
        "asked": _asked(bench),
        "disturbed": _disturbed(bench),
        "operators": _operators(results.get("graphs") or {}),
        "recipe": as_toml(results.get("recipe") or {}),
        "colours": COLOURS,
        **_verified(results.get("verify") or []),
    }


def _disturbed(bench: Row) -> bool:
    """Tell whether a system came out clearly faster or slower than itself: by more than its spread, and a tenth."""
    sides = [(bench.get("a_a") or {}).get(name) or {} for name in ("offline", "single_stream")]
    return any(side.get("holds") is False and abs(side["ratio"] - 1) > _NOISE for side in sides)


def _pictures(results: Row, task: TaskPage) -> list[Picture]:
    """Draw the pictures of the systems; those without data are empty."""
    drawn: list[Picture] = []
    better = "Up and to the right is better; a smaller circle is a smaller file."
    for measure in task.measures(results)[:1]:
        plot = charts.quality_against_speed(results, measure)
        drawn.append(Picture(plot, f"{measure.title} against speed", better))
    note = f"Median time for one {task.one} of so many tokens, tokenizing included."
    lengths = Picture(charts.latency_by_length(results, task.one), "Latency by length", note)
    drawn += [*task.pictures(results), lengths]
    return [_drawn(picture) for picture in drawn]


def _drawn(picture: Picture) -> Picture:
    """Put a drawing on the page as it is; names in it are escaped."""
    return picture._replace(svg=Markup(picture.svg))  # noqa: S704


def _details(results: Row, task: TaskPage) -> list[tuple[str, Table]]:
    """Return the tables that are folded away below the systems, those with figures."""
    named = [
        ("Retrieval by collection", tables.found(results)),
        ("Agreement and test sets", tables.agreement(results)),
        (f"{task.unit.capitalize()} a second by batch size", tables.batches(results)),
        ("Figures by length", tables.lengths(results, task)),
    ]
    return [(title, table) for title, table in named if table.rows and len(table.columns) > 1]


def _asked(bench: Row) -> Row:
    """Return what is known of the texts or questions that speed was measured on."""
    texts = bench.get("texts")
    return texts if isinstance(texts, dict) else {"count": bench.get("questions")}


def _verified(checks: list[Row]) -> dict[str, Any]:
    judged = [
        row for row in checks if row.get("passed") is False or (number(row, "bar") is not None and not row.get("off"))
    ]
    return {
        "judged": judged,
        "off": [row for row in checks if row.get("off")],
        "failed": [row for row in checks if row.get("passed") is False],
    }


def _operators(graphs: dict[str, dict[str, int]]) -> list[tuple[str, list[int]]]:
    """Return (operator, its count in each graph), the most frequent first."""
    names = tables.keys(graphs.values())
    rows = [(name, [(graph or {}).get(name) or 0 for graph in graphs.values()]) for name in names]
    return sorted(rows, key=lambda row: (-max(row[1]), row[0]))
