"""The page of measured readers, from the results that are committed: teacher, student, forms, ingredients."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.pages.students import Table, page, rendered
from benchmarks.report import readers
from benchmarks.report.markdown import escaped
from benchmarks.report.numbers import count, digits, duration, fixed, megabytes, plain, ratio_range
from benchmarks.report.results import Row, number, systems

PAGE, PICTURE = Path("docs/answers.md"), Path("docs/answers.svg")
RESULTS, ABLATION = "minilm-qa", "minilm-qa-ablation"
NAMES = (RESULTS, ABLATION)


def pages(results: Mapping[str, Row], source: Table) -> dict[Path, str]:
    """Write the page and its picture from the ``results`` by name; ``source`` says where figures come from."""
    run, variants = results[RESULTS], results[ABLATION]
    text = page("answers.md.j2").render(
        teacher=run["teacher"]["name"],
        questions=run["questions"],
        count=count,
        heldout=plain(100 * run["recipe"]["finetune"]["heldout"]),
        tries=_tries(run),
        systems=table(run, source),
        story=_story(run),
        ablation=f"{ablation(variants)}\n\n{source(variants)}",
    )
    return {PAGE: text, PICTURE: readers.picture(run)}


def table(results: Row, source: Table) -> str:
    """Render the systems of a reader's run, and below them where the figures come from."""
    best = number(systems(results)[0], "answers", "f1") or 1.0
    columns: dict[str, Table] = {
        "model": lambda row: escaped(row["label"]),
        "parameters": lambda row: f"{fixed(row['parameters'] / 1e6, 1)} M",
        "size": lambda row: f"{megabytes(row.get('size_bytes'))} MB",
        "F1": lambda row: fixed(row["answers"]["f1"], 2),
        "EM": lambda row: fixed(row["answers"]["exact"], 2),
        "of the teacher's F1": lambda row: f"{fixed(100 * row['answers']['f1'] / best, 1)} %",
        "questions/s": lambda row: count(number(row, "offline", "questions_per_second")),
        "speed vs teacher": lambda row: ratio_range(row.get("offline")),
        "p50 latency": lambda row: f"{digits(number(row, 'single_stream', 'latency_ms_p50'))} ms",
    }
    return f"{rendered(columns, systems(results))}\n\n{source(results)}"


def ablation(results: Row) -> str:
    """Render every variant of the student, beside the teacher."""
    best = results["rows"][0]["f1"] or 1.0
    columns: dict[str, Table] = {
        "what is varied": lambda row: escaped(row["group"]) if row["group"] else "",
        "student": lambda row: escaped(row["name"]),
        "F1": lambda row: fixed(row["f1"], 2),
        "EM": lambda row: fixed(row["exact"], 2),
        "of the teacher's F1": lambda row: f"{fixed(100 * row['f1'] / best, 1)} %",
    }
    return rendered(columns, results["rows"])


def _tries(results: Row) -> str:
    columns: dict[str, Callable[[Any], str]] = {
        "learning rate": lambda trial: plain(trial["learning_rate"]),
        "epochs": lambda trial: plain(trial["epochs"]),
        "F1, held-out questions": lambda trial: fixed(trial["f1"], 2),
        "EM": lambda trial: fixed(trial["exact"], 2),
    }
    return rendered(columns, results["teacher"]["tries"])


def _story(results: Row) -> str:
    columns: dict[str, Table] = {
        "stage": lambda row: escaped(row["stage"]),
        "what it does": lambda row: escaped(row["what"]),
        "F1": lambda row: fixed(row["answers"]["f1"], 2),
        "EM": lambda row: fixed(row["answers"]["exact"], 2),
        "took": lambda row: duration(row["seconds"]),
    }
    return rendered(columns, results["story"])
