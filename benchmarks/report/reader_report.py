"""Show what a reader's run measured: one self-contained HTML page, and a table for the terminal."""

from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.report import reader_chart
from benchmarks.report.charts import Row, number, systems
from benchmarks.report.page import (
    digits,
    fixed,
    gain,
    megabytes,
    ratio_range,
    shared,
    template,
)
from compressor.core.files import replace_text


def write_reader_report(results: dict[str, Any], path: Path) -> None:
    """Write the page for ``results``; nothing on it is loaded from anywhere."""
    replace_text(path, template("reader.html.j2").render(_context(results)))


def print_readers(results: dict[str, Any], console: Console) -> None:
    """Print one row a system, 80 columns wide."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("system", overflow="fold")
    for column in ("size MB", "F1", "EM", "questions/s", "to teacher", "p50/p99 ms"):
        table.add_column(column, justify="right", overflow="fold", min_width=len(column.split()[0]))
    for system in systems(results):
        table.add_row(*map(Text, _cells(system)))
    console.print(table)
    console.print(Text("F1, EM: 0 to 100; to teacher: median [lowest..highest] round"), style="dim")


def _cells(system: Row) -> list[str]:
    latency = system.get("single_stream") or {}
    return [
        str(system.get("name")),
        megabytes(system.get("size_bytes")),
        fixed(number(system, "answers", "f1"), 2),
        fixed(number(system, "answers", "exact"), 2),
        digits(number(system, "offline", "questions_per_second")),
        ratio_range(system.get("offline"), to=".."),
        f"{digits(latency.get('latency_ms_p50'))}/{digits(latency.get('latency_ms_p99'))}",
    ]


def headline(teacher: Row, artifact: Row) -> str:
    """Say the gains in one line."""
    sizes = [number(row, "size_bytes") for row in (teacher, artifact)]
    smaller = sizes[0] / sizes[1] if sizes[0] and sizes[1] else None
    f1 = [number(row, "answers", "f1") for row in (teacher, artifact)]
    quality = f"{100 * f1[1] / f1[0]:.1f}\N{NO-BREAK SPACE}% of the teacher's F1" if f1[0] and f1[1] is not None else ""
    faster = number(artifact, "offline", "ratio")
    return ", ".join(
        part for part in (gain(smaller, "smaller", "larger"), gain(faster, "faster", "slower"), quality) if part
    )


def _context(results: Row) -> dict[str, Any]:
    rows, drawn = systems(results), reader_chart.picture(results)
    more = {"headline": headline(rows[0], rows[-1]), "chart": Markup(drawn)}  # noqa: S704 - its words are escaped
    return shared(results) | more
