"""The page of a student that is made to search with, from results that are committed, where there are any."""

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.pages.students import made
from benchmarks.report.markdown import Source, escaped, page
from benchmarks.report.numbers import fixed, percent
from benchmarks.report.results import Row, number, systems
from benchmarks.report.table import Column, Table
from benchmarks.report.tables import found

PAGE, NAME = Path("docs/searching.md"), "minilm-retrieval"
_TEMPLATE = Path(__file__).with_name("templates") / "searching.md.j2"


def pages(results: Mapping[str, Row], source: Source, table: Callable[[Row], str]) -> dict[Path, str]:
    """Write the page from the ``results`` by name; none where there are none.

    ``table`` renders the systems of a run, ``source`` says where figures come from.
    """
    if NAME not in results:
        return {}
    run = results[NAME]
    text = page(_TEMPLATE).render(
        teacher=run["teacher"]["name"],
        texts=run["texts"],
        made=made(run),
        systems=table(run),
        found=found(run).markdown(),
        shares=shares(run).markdown(),
        lengths=lengths(run).markdown(),
        source=source(run),
    )
    return {PAGE: text}


def shares(run: Row) -> Table:
    """Lay out a row a collection: the share of the teacher's nDCG@10 that int8 keeps, also on the teacher's index."""
    teacher, *_, last = systems(run)
    names = list(teacher["retrieval"])
    columns = [
        Column("collection", lambda name: escaped(name), words=True),
        Column("teacher, nDCG@10 × 100", lambda name: fixed(number(teacher, "retrieval", name, "ndcg_at_10"), 1)),
        Column("int8 on its own index", lambda name: _share(last, teacher, name)),
        Column("int8's queries on the teacher's index", lambda name: _share(last, teacher, name, "on_teachers_index")),
    ]
    return Table(columns, names)


def lengths(run: Row) -> Table:
    """Lay out a row a length: the int8 artifact's mean cosine to the teacher on held-out texts of so many tokens."""
    rows = [row for row in run["verify"] if row["check"] == "agreement by length" and row["artifact"] == "int8"]
    columns = [
        Column("tokens, at most", lambda row: row["figure"].rpartition("_")[2]),
        Column("cosine to the teacher", lambda row: fixed(row["value"], 4)),
    ]
    return Table(columns, [row for row in rows if row["figure"].startswith("cosine_mean_to_")])


def _share(row: Row, teacher: Row, name: str, *place: str) -> str:
    own, full = number(row, "retrieval", name, *place, "ndcg_at_10"), number(teacher, "retrieval", name, "ndcg_at_10")
    return percent(own / full if own is not None and full else None, " ")
