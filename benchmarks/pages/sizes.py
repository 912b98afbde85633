"""The page of quality against bytes, from results that are committed, where there are any."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.report.markdown import Source, page
from benchmarks.report.numbers import MISSING, count
from benchmarks.report.results import Row, number, systems
from benchmarks.report.table import Column, Table
from benchmarks.tradeoff import size_chart
from benchmarks.tradeoff import table as tradeoff
from compressor.core.errors import ArtifactError

NAME = "minilm-sizes"
PAGE, PICTURE = Path("docs/sizes.md"), Path("docs/sizes.svg")
LINKS = {
    Path("docs/README.md"): ", [sizes.md](sizes.md)",
    Path("docs/small.md"): "What is kept in how many bytes, from 2 MB to the teacher itself: [sizes.md](sizes.md).",
}
"""What other pages say once this one is there, each between markers of the name ``sizes``."""
_TEMPLATE = Path(__file__).with_name("templates") / "sizes.md.j2"


def pages(results: Mapping[str, Row], source: Source) -> dict[Path, str]:
    """Write page and picture from the ``results`` by name; none where there are none. ``source`` is the table's own.

    ArtifactError for results of a trade-off of something else than sizes.
    """
    if NAME not in results:
        return {}
    run = results[NAME]
    if not tradeoff.is_of_sizes(run):
        raise ArtifactError(f"docs/figures/{NAME}.json: no trade-off of sizes; `compressor tradeoff --sizes` writes it")
    asked = [row for row in systems(run) if row.get("size")]
    text = page(_TEMPLATE).render(
        teacher=run["teacher"]["name"],
        recipe=run["name"],
        budget=run["recipe"]["distil"]["time_budget"],
        searched=run["texts"].get("searched", {}),
        systems=tradeoff.table(run),
        planned=planned(asked).markdown(),
        command=f"compressor recommend runs/{run['name']}-tradeoff --size {asked[-1]['size']}",
    )
    return {PAGE: text, PICTURE: size_chart.picture(run)}


def planned(rows: list[Row]) -> Table:
    """Lay out a row a size: its bytes as they were asked for, as they were planned, and as they are."""
    columns = [
        Column("made for", lambda row: row["size"], words=True),
        Column("most bytes", lambda row: f"{row['most_bytes']:,.0f}"),
        Column("planned", lambda row: f"{row['planned_bytes']:,.0f}"),
        Column("whole folder", lambda row: count(row.get("size_bytes"))),
        Column("off by", _off),
    ]
    return Table(columns, rows)


def _off(row: Row) -> str:
    made = number(row, "size_bytes")
    return MISSING if made is None else f"{100 * (row['planned_bytes'] / made - 1):+.2f} %"
