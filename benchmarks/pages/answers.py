"""The page of measured readers, from the results that are committed: teacher, student, forms, ingredients."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.report import readers
from benchmarks.report.markdown import Source, page
from benchmarks.report.numbers import count, duration, fixed, millions, percent, plain, with_unit
from benchmarks.report.results import EXACT, F1, Row, systems
from benchmarks.report.table import Column, Table
from benchmarks.report.tables import LATENCY, MODEL, QUESTIONS, RATIO, SIZE, quality

PAGE, PICTURE = Path("docs/answers.md"), Path("docs/answers.svg")
RESULTS, ABLATION = "minilm-qa", "minilm-qa-ablation"
NAMES = (RESULTS, ABLATION)
_TEMPLATE = Path(__file__).with_name("templates") / "answers.md.j2"
_SCORES = [quality(measure, measure.name) for measure in (F1, EXACT)]


def pages(results: Mapping[str, Row], source: Source) -> dict[Path, str]:
    """Write the page and its picture from the ``results`` by name; ``source`` says where figures come from."""
    run, variants = results[RESULTS], results[ABLATION]
    text = page(_TEMPLATE).render(
        teacher=run["teacher"]["name"],
        questions=run["questions"],
        count=count,
        heldout=plain(100 * run["recipe"]["finetune"]["heldout"]),
        tries=readers.tries(run).markdown(),
        systems=f"{table(run)}\n\n{source(run)}",
        story=_story(run),
        ablation=f"{ablation(variants)}\n\n{source(variants)}",
    )
    return {PAGE: text, PICTURE: readers.picture(run)}


def table(results: Row) -> str:
    """Render the systems of a reader's run."""
    best = F1.of(systems(results)[0]) or 1.0
    columns = [
        MODEL,
        Column("parameters", lambda row: with_unit(millions(row.get("parameters")), "M")),
        SIZE,
        *_SCORES,
        Column("of the teacher's F1", lambda row: percent(row["answers"]["f1"] / best, " ")),
        QUESTIONS,
        RATIO,
        LATENCY,
    ]
    return Table(columns, systems(results)).markdown()


def ablation(results: Row) -> str:
    """Render every variant of the student, beside the teacher."""
    best = results["rows"][0]["f1"] or 1.0
    columns = [
        Column("what is varied", lambda row: row["group"], words=True),
        Column("student", lambda row: row["name"], words=True),
        Column("F1", lambda row: fixed(row["f1"], 2)),
        Column("EM", lambda row: fixed(row["exact"], 2)),
        Column("of the teacher's F1", lambda row: percent(row["f1"] / best, " ")),
    ]
    return Table(columns, results["rows"]).markdown()


def _story(results: Row) -> str:
    columns = [
        Column("stage", lambda row: row["stage"], words=True),
        Column("what it does", lambda row: row["what"], words=True),
        *_SCORES,
        Column("took", lambda row: duration(row["seconds"])),
    ]
    return Table(columns, results["story"]).markdown()
