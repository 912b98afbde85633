"""The table of quality against the bytes of a vector."""

from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from benchmarks.report.numbers import fixed, with_unit
from benchmarks.report.results import Row, number
from benchmarks.report.table import Column, Table

_REDUCTIONS = {
    "pca": "PCA",
    "similarities": "similarities kept",
    "truncation": "truncated",
    "none": "as they are",
}


def table(results: Row) -> Table:
    """Lay out a row a size, reduction and precision."""
    first = results["points"][0]
    files, collections = first["sts"], first.get("retrieval") or {}
    columns = [
        Column("vectors", lambda row: f"{row['dim']} {row['precision']}, {_REDUCTIONS[row['reduction']]}"),
        Column("bytes", lambda row: str(row["bytes"])),
        *(Column(name, _score(name)) for name in files),
        Column("share", _share),
        *(Column(f"{name} nDCG@10", _found(name)) for name in collections),
        *(Column(f"{name} rescored", _found(name, "rescored")) for name in collections),
        Column("neighbours", lambda row: fixed(row["neighbours_at_10"], 3)),
        Column("pairs", lambda row: fixed(row["pair_correlation"], 3)),
    ]
    return Table(columns, results["points"])


def print_curve(results: Row, console: Console) -> None:
    """Print the table, and what its shares are of."""
    table(results).print(console)
    line = "share: of the full float32 vectors' Spearman; neighbours, pairs: agreement with them"
    if results["points"][0].get("retrieval"):
        line += "; rescored: the 400 nearest codes, ordered again by the queries in full"
    console.print(Text(line, style="dim"))


def _score(name: str) -> Callable[[Row], str]:
    return lambda row: fixed(number(row, "sts", name), 2)


def _found(name: str, *place: str) -> Callable[[Row], str]:
    return lambda row: fixed(number(row, "retrieval", name, *place, "ndcg_at_10"), 1)


def _share(row: Row) -> str:
    share = number(row, "share")
    return with_unit(fixed(None if share is None else 100 * share, 2), "%")
