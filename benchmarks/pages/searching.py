"""The page of students that are made to search with, from results that are committed."""

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.report.markdown import Source, escaped, page
from benchmarks.report.numbers import count, fixed, percent
from benchmarks.report.results import Row, found_of, number, spearman, system_label, systems
from benchmarks.report.table import Column, Table
from benchmarks.report.tables import AGREEMENT, found, quality
from benchmarks.tradeoff import table as tradeoff

PAGE = Path("docs/searching.md")
RUN, ABLATION = "minilm-retrieval", "minilm-retrieval-ablation"
NAMES = (RUN, ABLATION)
_TEMPLATE = Path(__file__).with_name("templates") / "searching.md.j2"
_INDEX = "on_teachers_index"


def pages(results: Mapping[str, Row], source: Source) -> dict[Path, str]:
    """Write the page from the ``results`` by name (``NAMES``); ``source`` says where figures come from."""
    run, variants = (results[name] for name in NAMES)
    text = page(_TEMPLATE).render(
        teacher=run["teacher"]["name"],
        budget=run["recipe"]["distil"]["time_budget"],
        texts=run["texts"],
        systems=tradeoff.table(run),
        own=shares(run).markdown(),
        beside=shares(run, _INDEX).markdown(),
        found=found(run).markdown(),
        lengths=lengths(run).markdown(),
        layers=tradeoff.label_of(variants["recipe"]["distil"]["layers"]),
        seen=count(variants["rows"][1]["texts_seen"]),
        ablation=f"{ablation(variants)}\n\n{source(variants)}",
    )
    return {PAGE: text}


def shares(run: Row, *place: str) -> Table:
    """Lay out a row a student: the share of the teacher's nDCG@10 that it has, collection by collection.

    ``place``: of its queries on the teacher's index, where that is given.
    """
    teacher, *students = systems(run)
    columns = [
        Column("student", system_label, words=True),
        *(Column(escaped(name), _share(teacher, name, *place)) for name in teacher["retrieval"]),
        Column("mean of nDCG@10", _mean_share(teacher, *place)),
    ]
    return Table(columns, students)


def lengths(run: Row) -> Table:
    """Lay out a row a student: its mean cosine to the teacher on held-out texts of at most so many tokens."""
    rows: dict[str, dict[str, float]] = {}
    for check in run["verify"]:
        if check["check"] == "agreement by length" and check["figure"].startswith("cosine_mean_to_"):
            rows.setdefault(check["artifact"], {})[check["figure"].rpartition("_")[2]] = check["value"]
    named = {row["name"]: system_label(row) for row in systems(run)}
    bounds = sorted({bound for row in rows.values() for bound in row}, key=int)
    columns = [
        Column("student", lambda name: named[name], words=True),
        *(Column(f"to {bound} tokens", _cosine(rows, bound)) for bound in bounds),
    ]
    return Table(columns, [row["name"] for row in systems(run) if row["name"] in rows])


def ablation(results: Row) -> str:
    """Render every variant of the student, beside the teacher; what is found as a share of what the teacher finds."""
    rows = results["rows"]
    full = found_of(rows[0])
    columns = [
        Column("what is varied", lambda row: row["group"], words=True),
        Column("student", lambda row: row["name"], words=True),
        Column("texts seen", lambda row: count(row.get("texts_seen"))),
        AGREEMENT,
        Column("ranking kept", lambda row: fixed(number(row, "agreement", "ndcg_at_10"), 1)),
        *(quality(spearman(file)) for file in rows[0]["sts"]),
    ]
    if full is not None:
        columns += [
            Column("share of what the teacher finds", lambda row: _of(found_of(row), full)),
            Column("on the teacher's index", lambda row: _of(found_of(row, "on_teachers_index"), full)),
        ]
    return Table(columns, rows).markdown()


def _share(teacher: Row, name: str, *place: str) -> Callable[[Row], str]:
    full = number(teacher, "retrieval", name, "ndcg_at_10")
    return lambda row: _of(number(row, "retrieval", name, *place, "ndcg_at_10"), full)


def _mean_share(teacher: Row, *place: str) -> Callable[[Row], str]:
    return lambda row: _of(found_of(row, *place), found_of(teacher))


def _cosine(rows: Mapping[str, Mapping[str, float]], bound: str) -> Callable[[str], str]:
    return lambda name: fixed(rows[name].get(bound), 4)


def _of(own: float | None, full: float | None) -> str:
    return percent(own / full if own is not None and full else None, " ")
