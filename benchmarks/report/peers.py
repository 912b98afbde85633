"""The table of a run beside the peers, for the terminal and as Markdown; and the page of the committed one."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.report.markdown import Source, escaped, page
from benchmarks.report.numbers import MISSING, count, fixed, ratio_range
from benchmarks.report.page import print_table
from benchmarks.report.results import Row, found_of, number, similarity, systems
from benchmarks.report.table import Column, Table
from benchmarks.report.tables import AGREEMENT, LATENCY, RATIO, RETRIEVAL, SIZE, TEXTS, found, quality

PAGE = Path("docs/peers.md")
NAME = "peers"
_TEMPLATE = Path(__file__).with_name("templates") / "peers.md.j2"
_LEAST_IDLE = 0.05  # of a core; the clock of processor time ticks in hundredths of a second


def pages(results: Mapping[str, Row], source: Source) -> dict[Path, str]:
    """Write the page from the ``results`` by name; ``source`` says where figures come from."""
    return {PAGE: markdown(results[NAME], source)}


def markdown(results: Row, source: Source) -> str:
    """Write ``peers.md``: every system in one table, what it finds and its speed by length in others."""
    return page(_TEMPLATE).render(
        teacher=escaped((results.get("teacher") or {}).get("name")),
        texts=results["bench"]["texts"],
        rounds=results["bench"]["rounds"],
        threads=results["bench"]["threads"],
        count=count,
        fixed=fixed,
        systems=table(results),
        found=retrieval(results),
        lengths=lengths(results),
        best=_against_best(results),
        source=source(results),
    )


def table(results: Row) -> str:
    """Render a row a system; one that does not run says why."""
    columns = [
        _SYSTEM,
        Column("version", _version, words=True),
        SIZE,
        quality(similarity(results)),
        *([RETRIEVAL] if any(found_of(row) is not None for row in systems(results)) else []),
        AGREEMENT,
        Column("at its best", _setting),
        TEXTS,
        Column(RATIO.title, _speed),
        LATENCY,
    ]
    return Table(columns, systems(results)).markdown()


def retrieval(results: Row) -> str:
    """Render what each system finds in each collection; empty where nothing was searched."""
    shown = found(results, _named)
    return replace(shown, stressed=lambda row: False).markdown() if shown.rows else ""


def lengths(results: Row) -> str:
    """Render each system's speed against the teacher at each length; empty where none was measured."""
    rows = [row for row in systems(results) if row.get("by_length")]
    if not rows:
        return ""
    tokens = [measured["tokens"] for measured in rows[0]["by_length"]]
    return Table([_SYSTEM, *(Column(f"{n} tokens", _at(place)) for place, n in enumerate(tokens))], rows).markdown()


def print_peers(results: Row, console: Console) -> None:
    """Print the table, and below it why a peer has no figures."""
    print_table(results, console)
    for row in systems(results):
        if "reason" in row:
            console.print(f"{row['name']}: {row['reason']}", markup=False, soft_wrap=True)
        if (number(row, "idle_share") or 0.0) > _LEAST_IDLE:
            share = 100 * row["idle_share"]
            console.print(f"{row['name']}: used {share:.0f} % of a core in others' turns", markup=False)
    for line in _against_best(results):
        console.print(line, markup=False, soft_wrap=True)


def _named(row: Row) -> str:
    """Name an artifact by its folder, another system by what it is."""
    return str((row.get("name") if row.get("kind") == "artifact" else row.get("label")) or MISSING)


_SYSTEM = Column("system", _named, words=True)


def _version(row: Row) -> str:
    """Name the package that a system runs on, and its version; of ours all that count."""
    versions = dict(row.get("versions") or {})
    versions.pop("python", None)
    if row.get("kind") == "artifact":
        versions = {name: versions[name] for name in ("onnxruntime",) if name in versions}
    shown = [f"{name} {version}" for name, version in versions.items()][:2]
    return ", ".join(shown) or MISSING


def _setting(row: Row) -> str:
    offline = row.get("offline")
    if not offline:
        return MISSING
    parts = [f"batch {offline['batch_size']}", *(f"{name} {n}" for name, n in offline["setting"].items())]
    return ", ".join(parts)


def _speed(row: Row) -> str:
    return f"does not run: {escaped(row['reason'])}" if "reason" in row else ratio_range(row.get("offline"))


def _at(place: int) -> Callable[[Row], str]:
    return lambda row: ratio_range(row["by_length"][place])


def _against_best(results: Row) -> list[str]:
    """Say of each artifact how it compares with the fastest peer of the teacher's weights."""
    labels = {row["name"]: row["label"] for row in systems(results)}
    lines = []
    for row in systems(results):
        comparisons: list[tuple[str, Any]] = [("", row.get("to_best_peer"))]
        comparisons += [
            (f" at {figures['tokens']} tokens", figures.get("to_best_peer")) for figures in row.get("by_length") or []
        ]
        lines += [
            f"{row['name']} against {labels[comparison['name']]}, the fastest peer{place}: {ratio_range(comparison)}"
            for place, comparison in comparisons
            if comparison
        ]
    return lines
