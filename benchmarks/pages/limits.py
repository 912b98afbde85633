"""The page of what bounds an artifact, from the results that are committed: peaks, operators, what was tried."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.pages.students import Table, page, rendered
from benchmarks.report.limit_table import longest
from benchmarks.report.numbers import count, megabytes, percent
from benchmarks.report.results import Row
from benchmarks.speed.loadgen import UNITS
from exporters.search.report import summary, trials

PAGE = Path("docs/limits.md")
LIMITS = ("limit-6-layers", "limit-3-layers")
SEARCH, GROWTH, LOADGEN = "search-6-layers", "growth", "loadgen"
NAMES = (*LIMITS, SEARCH, GROWTH, LOADGEN)
_FIGURES = {
    ("offline", "texts_per_second"): "Offline",
    ("single_stream", "latency_ms_p50"): "SingleStream, half of all queries within",
    ("single_stream", "latency_ms_p90"): "SingleStream, nine tenths within",
    ("server", "rate"): "Server, highest rate",
}


def pages(results: Mapping[str, Row], source: Table) -> dict[Path, str]:
    """Write the page from the ``results`` by name (``NAMES``); ``source`` says where figures come from."""
    text = page("limits.md.j2").render(
        limits=[
            {"title": name.removeprefix("limit-").replace("-", " "), "peaks": _peaks(row["limit"]),
             "table": limit(row["limit"]), "threads": row["limit"]["threads"], "source": source(row)}
            for name, row in ((name, results[name]) for name in LIMITS)
        ],
        chosen=summary(results[SEARCH]),
        trials=trials(results[SEARCH]),
        search_source=source(results[SEARCH]),
        growth=growth(results[GROWTH]["growth"]),
        grown=results[GROWTH]["growth"],
        growth_source=source(results[GROWTH]),
        loadgen=loadgen(results[LOADGEN]["loadgen"]),
        bound=results[LOADGEN]["loadgen"]["server_p99_ms"],
        loadgen_source=source(results[LOADGEN]),
    )  # fmt: skip
    return {PAGE: text}


def limit(results: Row) -> str:
    """Render a column a length: rates, shares of the peaks, and where the time goes."""
    lengths = results["by_length"]
    lines: list[tuple[str, list[str]]] = [
        ("texts/s", [count(row["texts_per_second"]) for row in lengths]),
        ("billions of operations/s", [count(row["gops"]) for row in lengths]),
    ]
    for name in lengths[0]["of_peak"]:
        lines.append((f"of the {name} peak", [percent(row["of_peak"][name]) for row in lengths]))
    for name in longest(results):
        lines.append((f"time in {name}", [percent(_share(row, name)) for row in lengths]))
    columns: dict[str, Callable[[tuple[str, list[str]]], str]] = {"tokens": lambda line: line[0]}
    for place, row in enumerate(lengths):
        columns[str(row["tokens"])] = _at(place)
    return rendered(columns, lines)


def growth(results: Row) -> str:
    """Render a row a number of texts: speed and memory."""
    return rendered(
        {
            "texts": lambda row: f"{row['count']:,}",
            "texts/s": lambda row: count(row["texts_per_second"]),
            "peak memory": lambda row: f"{megabytes(row['peak_memory_bytes'])} MB",
            "runs": lambda row: str(row["runs"]),
        },
        results["rows"],
    )


def loadgen(results: Row) -> str:
    """Render a row a figure: this harness's and LoadGen's."""
    rows = [(label, UNITS[name], results[scenario][name]) for (scenario, name), label in _FIGURES.items()]
    return rendered(
        {
            "figure": lambda row: row[0],
            "this harness": lambda row: f"{row[2]['ours']:,.4g} {row[1]}",
            "LoadGen": lambda row: f"{row[2]['loadgen']:,.4g} {row[1]}",
            "ratio": lambda row: f"{row[2]['ratio']:.3f} [{row[2]['low']:.3f}\N{EN DASH}{row[2]['high']:.3f}]",
        },
        rows,
    )


def _peaks(results: Row) -> str:
    return ", ".join(f"{name.partition('_')[0]} {count(peak)}" for name, peak in results["peaks"].items())


def _at(place: int) -> Callable[[tuple[str, list[str]]], str]:
    return lambda line: line[1][place]


def _share(row: Mapping[str, Any], operator: str) -> float:
    return next((float(entry["share"]) for entry in row["operators"] if entry["operator"] == operator), 0.0)
