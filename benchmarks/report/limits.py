"""Tables of what bounds an artifact: its share of the machine's peak, growth of its texts, LoadGen's figures."""

from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from benchmarks.report.numbers import count, digits, percent, ratio_range, size
from benchmarks.report.results import Row, number, rate_of
from benchmarks.report.table import Column, Table

_SHOWN = 8  # operators in the table
_FIGURES = {
    ("offline", "texts_per_second"): ("Offline", "texts/s"),
    ("single_stream", "latency_ms_p50"): ("SingleStream, half of all queries within", "ms"),
    ("single_stream", "latency_ms_p90"): ("SingleStream, nine tenths within", "ms"),
    ("server", "rate"): ("Server, highest rate", "texts/s"),
}


class Line(NamedTuple):
    """A row of the table of the limit: a cell a length."""

    name: str
    cells: list[str]


def limit(found: Row, of_peak: bool = False) -> Table:
    """Lay out a column a length: rates, shares of the peaks, and the operators that take longest.

    ``of_peak``: with what an operator reaches of its precision's peak, in brackets.
    """
    rows, unit = found.get("by_length") or [], found.get("unit") or "texts"
    lines = [
        Line(f"{unit}/s", [count(rate_of(row, unit)) for row in rows]),
        Line("billions of operations/s", [count(row.get("gops")) for row in rows]),
    ]
    for name in (rows[0].get("of_peak") or {}) if rows else ():
        lines.append(Line(f"of the {name} peak", [percent(number(row, "of_peak", name)) for row in rows]))
    for name in longest(found):
        lines.append(Line(f"time in {name}", [_share(row, name, of_peak) for row in rows]))
    lengths = [Column(count(row.get("tokens")), _at(place)) for place, row in enumerate(rows)]
    return Table([Column("tokens", lambda line: line.name, words=True), *lengths], lines)


def print_limit(found: Row, console: Console) -> None:
    """Print the table of the limit, and the peaks that its shares are of."""
    limit(found).print(console)
    line = f"peaks on {found['threads']} threads, billions of operations a second: {peaks(found)}"
    console.print(Text(line, style="dim"))


def peaks(found: Row) -> str:
    """Write what this machine's cores do at most, in each precision."""
    return ", ".join(f"{name.partition('_')[0]} {count(peak)}" for name, peak in found["peaks"].items())


def longest(found: Row) -> list[str]:
    """Return the operators that take the largest share of the time at any length, the largest first."""
    shares: dict[str, float] = {}
    for row in found.get("by_length") or []:
        for operator in row.get("operators") or []:
            name = str(operator.get("operator"))
            shares[name] = max(shares.get(name, 0.0), operator.get("share") or 0.0)
    return sorted(shares, key=lambda name: -shares[name])[:_SHOWN]


def growth(found: Row) -> Table:
    """Lay out a row a number of texts or questions: speed and memory."""
    unit = str(found.get("unit") or "texts")
    columns = [
        Column(unit, lambda row: count(row["count"])),
        Column(f"{unit}/s", lambda row: count(rate_of(row, unit))),
        Column("peak memory", lambda row: size(row["peak_memory_bytes"])),
        Column("runs", lambda row: str(row["runs"])),
    ]
    return Table(columns, found["rows"])


def print_growth(found: Row, console: Console) -> None:
    """Print the table of growth, and whether speed and memory hold."""
    growth(found).print(console)
    verdict = "holds" if found["holds"] else "does not hold"
    line = f"largest to smallest: speed {found['speed_ratio']:.3f}, memory {found['memory_ratio']:.3f}"
    console.print(Text(f"{line}; within {found['tolerance']:.0%}: {verdict}", style="dim"))


def lengths(found: Row) -> Table:
    """Lay out a row a system and length: time, memory, ratio to the first system."""
    columns = [
        Column("tokens", lambda row: count(row["tokens"])),
        Column("system", lambda row: str(row["label"]), words=True),
        Column(f"ms a {str(found.get('unit') or 'texts').removesuffix('s')}", lambda row: digits(row.get("ms"))),
        Column("speed", ratio_range),
        Column("peak memory", lambda row: size(row.get("peak_memory_bytes"))),
    ]
    return Table(columns, found["rows"])


def print_lengths(found: Row, console: Console) -> None:
    """Print the table of lengths, and why one was not reached."""
    lengths(found).print(console)
    for row in found["rows"]:
        if row.get("failed"):
            console.print(Text(f"{row['label']}, {count(row['tokens'])} tokens: {row['failed']}", style="dim"))


def loadgen(found: Row) -> Table:
    """Lay out a row a figure: this harness's and LoadGen's."""
    columns = [
        Column("figure", lambda row: row[0]),
        Column("this harness", lambda row: f"{row[2]['ours']:,.4g} {row[1]}"),
        Column("LoadGen", lambda row: f"{row[2]['loadgen']:,.4g} {row[1]}"),
        Column("ratio", lambda row: f"{row[2]['ratio']:.3f} [{row[2]['low']:.3f}–{row[2]['high']:.3f}]"),
    ]
    measured = ((words, (found.get(scenario) or {}).get(name)) for (scenario, name), words in _FIGURES.items())
    return Table(columns, [(*words, figures) for words, figures in measured if figures])


def print_loadgen(found: Row, console: Console) -> None:
    """Print the table of both harnesses, and whether they agree."""
    table = loadgen(found)
    agrees = Column("within", lambda row: "yes" if row[2]["agrees"] else "no")
    Table([*table.columns, agrees], table.rows).print(console)


def print_over_http(found: Row, console: Console) -> None:
    """Print what an artifact does over HTTP beside the same in process, and peers' servers, or why one has none."""
    size, load, own = found["texts_a_request"], percent(found["load"]), found["served"]
    rows = [
        ("start to first answer", "", f"{own['start_seconds']:.2f} s"),
        (f"texts/s, {size} a request", count(found["encode_texts_per_second"]), count(own["texts_per_second"])),
        ("share of encode", "", percent(found["served_share"])),
        ("one text, p50", f"{found['batcher_ms_p50']:.3g} ms", f"{own['single_ms_p50']:.3g} ms"),
        ("requests/s of one text", "", count(own["singles_per_second"])),
        (f"at {load} of these, p50", "", f"{own['load_ms_p50']:.3g} ms"),
        (f"at {load} of these, p99", "", f"{own['load_ms_p99']:.3g} ms"),
    ]
    names = ("", "in process", "over HTTP")
    Table([Column(name, itemgetter(place)) for place, name in enumerate(names)], rows).print(console)
    if found["peers"]:
        console.print()
        servers(found).print(console)
    for peer in found["peers"]:
        if peer["reason"]:
            console.print(Text(f"{peer['name']}: not measured: {peer['reason']}", style="dim"))


def servers(found: Row) -> Table:
    """Lay out a row a server, ours first, of those that ran."""
    ours = {"label": "compressor serve", "same_vectors": True, "served": found["served"]}
    columns = [
        Column("server", lambda row: str(row["label"]), words=True),
        Column("first answer", lambda row: f"{row['served']['start_seconds']:.2f} s"),
        Column(f"texts/s, {found['texts_a_request']} a request", lambda row: count(row["served"]["texts_per_second"])),
        Column("one text, p50", lambda row: f"{digits(row['served']['single_ms_p50'])} ms"),
        Column("requests/s of one text", lambda row: count(row["served"]["singles_per_second"])),
        Column(f"at {percent(found['load'])}, p50", lambda row: f"{digits(row['served']['load_ms_p50'])} ms"),
        Column("p99", lambda row: f"{digits(row['served']['load_ms_p99'])} ms"),
    ]
    return Table(columns, [row for row in (ours, *found["peers"]) if row["served"] is not None])


def _at(place: int) -> Callable[[Line], str]:
    return lambda line: line.cells[place]


def _share(row: Row, name: str, of_peak: bool) -> str:
    entry: Row = next((entry for entry in row.get("operators") or [] if entry.get("operator") == name), {})
    reached = number(entry, "of_peak")
    share = percent(number(entry, "share") or 0.0)
    return f"{share} ({percent(reached)})" if of_peak and reached is not None else share
