"""The page of students to search with shows shares of the teacher's figures, and what was trained on."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.pages import figures, searching
from benchmarks.report.markdown import source

ROOT = Path(__file__).parents[2]
FOUND = {"recall_at_1": 10.0, "recall_at_10": 20.0, "recall_at_100": 30.0, "mrr_at_10": 25.0}


@pytest.fixture
def results() -> dict[str, Any]:
    """Return the committed figures, as if they were found in collections whose figures are known."""
    made = {name: json.loads((ROOT / figures.FIGURES / f"{name}.json").read_text("utf-8")) for name in searching.NAMES}
    return copy.deepcopy(made)


@pytest.fixture
def known(results: dict[str, Any]) -> dict[str, Any]:
    run = results[searching.NAMES[0]]
    for system in run["bench"]["systems"]:
        is_teacher = system["name"] == "teacher"
        on = {} if is_teacher else {"on_teachers_index": FOUND | {"ndcg_at_10": 48.5}}
        system["retrieval"] = {
            "abstracts": FOUND | {"ndcg_at_10": 50.0 if is_teacher else 47.0} | on,
            "books": FOUND | {"ndcg_at_10": 30.0} | on,
        }
    run["texts"]["searched"] = {"abstracts": 0.0123}
    length = {"artifact": "3-layers-int8", "check": "agreement by length", "value": 0.9123}
    run["verify"] = [length | {"figure": "cosine_mean_to_32"}, length | {"figure": "largest_gap"}]
    return results


def test_shares_are_of_the_teachers(known: dict[str, Any]) -> None:
    text = searching.pages(known, source)[searching.PAGE]
    assert "| 3 layers, ONNX int8 | 94.0 % | 100.0 % | 96.2 % |" in text
    assert "| 3 layers, ONNX int8 | 97.0 % | 161.7 % | 121.2 % |" in text, "on the teacher's index"
    assert "1.23 % of abstracts are among the texts to train on" in text
    assert "| 3 layers, ONNX int8 | 0.9123 |" in text
    assert "largest" not in text
    assert "****" not in text, "a row that stands out has no name where it goes on"


def test_rows_are_of_every_student(results: dict[str, Any]) -> None:
    run = results[searching.NAMES[0]]
    labels = [row["label"] for row in run["bench"]["systems"][1:]]
    assert len(labels) == 6
    for table in (searching.shares(run), searching.shares(run, "on_teachers_index"), searching.lengths(run)):
        assert [line.split("|")[1].strip() for line in table.markdown().splitlines()[2:]] == labels
