"""The page of measured students, from the results that are committed: layers, width, shorter vectors, languages."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import curve_chart
from benchmarks.report.markdown import Source, escaped, page
from benchmarks.report.numbers import fixed, percent
from benchmarks.report.results import Row, number, spearman
from benchmarks.report.table import Column, Table
from benchmarks.tradeoff import chart as tradeoff_chart
from benchmarks.tradeoff import table as tradeoff

PAGE, LAYERS, VECTORS = Path("docs/students.md"), Path("docs/layers.svg"), Path("docs/vector-sizes.svg")
NAMES = ("minilm-layers", "minilm-fastest", "minilm-l1", "minilm-light", "minilm-l3-matryoshka", "minilm-german",
         "minilm-vectors", "minilm-l3-matryoshka-vectors")  # fmt: skip
_REDUCTIONS = {"pca": "principal components", "similarities": "similarities kept", "none": "as they are",
               "truncation": "first dimensions"}  # fmt: skip

_FORMS = ("float32", "int8", "binary")
_TEMPLATE = Path(__file__).with_name("templates") / "students.md.j2"


def pages(results: Mapping[str, Row], source: Source, systems: Callable[[Row], str]) -> dict[Path, str]:
    """Write the page and its pictures from the ``results`` by name (``NAMES``).

    ``systems`` renders the systems of a run as a table, ``source`` says where figures come from.
    """
    layers, curve = results["minilm-layers"], results["minilm-vectors"]
    text = page(_TEMPLATE).render(
        teacher=layers["teacher"]["name"],
        layers=tradeoff.table(layers),
        fastest=tradeoff.table(results["minilm-fastest"]),
        single=systems(results["minilm-l1"]),
        single_made=made(results["minilm-l1"]),
        light=systems(results["minilm-light"]),
        light_made=made(results["minilm-light"]),
        measure=escaped(spearman(_sts(curve)).label),
        reduced=vectors(curve, ("pca", "similarities", "none"), source),
        matryoshka=vectors(results["minilm-l3-matryoshka-vectors"], ("truncation", "none"), source),
        matryoshka_made=made(results["minilm-l3-matryoshka"]),
        german=languages(results["minilm-german"], source),
        german_made=made(results["minilm-german"]),
    )
    return {PAGE: text, LAYERS: tradeoff_chart.picture(layers), VECTORS: curve_chart.picture(curve)}


def vectors(results: Row, reductions: Sequence[str], source: Source) -> str:
    """Render a curve as a table: a row a size and reduction, a column a form of the vectors."""
    sts = _sts(results)
    by_form: dict[tuple[int, str], dict[str, Row]] = {}
    for row in results["points"]:
        if row["reduction"] in reductions:
            by_form.setdefault((row["dim"], row["reduction"]), {})[row["precision"]] = row
    columns = [
        Column("dimensions", lambda forms: str(forms["float32"]["dim"])),
        Column("reduced by", lambda forms: _REDUCTIONS[forms["float32"]["reduction"]]),
        *(Column(form, _quality(form, sts)) for form in _FORMS),
        Column("bytes", lambda forms: " / ".join(str(forms[form]["bytes"]) for form in _FORMS)),
        Column("neighbours in common, float32", lambda forms: fixed(number(forms["float32"], "neighbours_at_10"), 3)),
    ]
    return f"{Table(columns, list(by_form.values())).markdown()}\n\n{source(results)}"


def _quality(form: str, sts: str) -> Callable[[dict[str, Row]], str]:
    return lambda forms: fixed(number(forms[form], "sts", sts), 2)


def languages(results: Row, source: Source) -> str:
    """Render what a multilingual student knows of both languages; STS as Spearman x 100, the first files."""
    names = {"teacher": "teacher, PyTorch fp32", "distil": "student, PyTorch fp32", "int8": "student, ONNX int8"}
    measured = {names[name]: figures for name, figures in results["languages"].items() if name in names}
    sets = list(next(iter(measured.values()))["matching"])
    columns = [
        Column("model", lambda row: row[0]),
        Column("STS benchmark test, first language", lambda row: fixed(row[1]["sts"][0]["first"], 2)),
        Column("new language", lambda row: fixed(row[1]["sts"][0]["new"], 2)),
        Column("across", lambda row: fixed(row[1]["sts"][0]["across"], 2)),
        Column("first language kept", lambda row: percent(row[1]["sts"][0]["first_kept"], " ")),
        *(Column(f"matching, {name}", _both_ways(name)) for name in sets),
    ]
    return f"{Table(columns, list(measured.items())).markdown()}\n\n{source(results)}"


def _both_ways(name: str) -> Callable[[tuple[str, Any]], str]:
    ways = ("source_to_translation", "translation_to_source")
    return lambda row: " / ".join(percent(row[1]["matching"][name][way], " ") for way in ways)


def _sts(results: Row) -> str:
    return next(iter(results["points"][0]["sts"]))


def made(results: Row) -> str:
    """Say how the student of a run was made, as its report does."""
    return next(escaped(row["what"]) for row in results["story"] if row["stage"] == "distil")
