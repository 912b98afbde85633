"""The table of an encoder's ablation: a row a student, made with and without an ingredient."""

from collections.abc import Callable

from benchmarks.report.numbers import count, fixed, percent
from benchmarks.report.results import COSINE, Row, found_of, number, spearman
from benchmarks.report.table import Column, Table


def table(results: Row) -> str:
    """Render every variant of the student, beside the teacher; what is found as a share of what the teacher finds."""
    rows = results["rows"]
    full = found_of(rows[0])
    columns = [
        Column("what is varied", lambda row: row["group"], words=True),
        Column("student", lambda row: row["name"], words=True),
        Column("texts seen", lambda row: count(row.get("texts_seen"))),
        Column(COSINE.label, lambda row: fixed(number(row, "agreement", "cosine_mean"), 4)),
        Column("ranking kept", lambda row: fixed(number(row, "agreement", "ndcg_at_10"), 1)),
        *(Column(spearman(file).label, _of(file)) for file in rows[0]["sts"]),
    ]
    if full is not None:
        columns += [
            Column("share of what the teacher finds", lambda row: _share(found_of(row), full)),
            Column("on the teacher's index", lambda row: _share(found_of(row, "on_teachers_index"), full)),
        ]
    return Table(columns, rows).markdown()


def _of(file: str) -> Callable[[Row], str]:
    return lambda row: fixed(number(row, "sts", file), 2)


def _share(own: float | None, full: float) -> str:
    return percent(own / full if own is not None and full else None, " ")
