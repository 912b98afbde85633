"""Show what share of the peak was reached, and where the time went: a column a length."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

_SHOWN = 8  # operators in the table


def print_limit(limit: Mapping[str, Any], console: Console) -> None:
    """Print a column a length: rates, shares of the peaks, and the operators that take longest."""
    rows: Sequence[Mapping[str, Any]] = limit["by_length"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("tokens")
    for row in rows:
        table.add_column(str(row["tokens"]), justify="right")
    table.add_row("texts/s", *(f"{row['texts_per_second']:,.0f}" for row in rows))
    table.add_row("billions of operations/s", *(f"{row['gops']:,.0f}" for row in rows))
    for name in rows[0]["of_peak"] if rows else ():
        table.add_row(f"of the {name} peak", *(f"{row['of_peak'][name]:.1%}" for row in rows))
    for name in longest(limit):
        shares = [
            next((operator["share"] for operator in row["operators"] if operator["operator"] == name), 0.0)
            for row in rows
        ]
        table.add_row(Text(f"time in {name}"), *(f"{share:.1%}" for share in shares))
    console.print(table)
    peaks = ", ".join(f"{name.partition('_')[0]} {peak:,.0f}" for name, peak in limit["peaks"].items())
    line = f"peaks on {limit['threads']} threads, billions of operations a second: {peaks}"
    console.print(Text(line, style="dim"))


def longest(limit: Mapping[str, Any]) -> list[str]:
    """Return the operators that take the largest share of the time at any length, the largest first."""
    shares: dict[str, float] = {}
    for row in limit.get("by_length") or []:
        for operator in row.get("operators") or []:
            name = str(operator.get("operator"))
            shares[name] = max(shares.get(name, 0.0), operator.get("share") or 0.0)
    return sorted(shares, key=lambda name: -shares[name])[:_SHOWN]
