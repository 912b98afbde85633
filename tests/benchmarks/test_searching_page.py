"""The page of a student to search with shows shares of the teacher's figures, and what was trained on."""

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
def run() -> dict[str, Any]:
    """Return the committed run of README's model, as if it had searched."""
    path = ROOT / figures.FIGURES / f"{figures.RESULTS}.json"
    made: dict[str, Any] = copy.deepcopy(json.loads(path.read_text("utf-8")))
    for system in made["bench"]["systems"]:
        own = 50.0 if system["name"] == "teacher" else 47.0
        on = {} if system["name"] == "teacher" else {"on_teachers_index": FOUND | {"ndcg_at_10": 48.5}}
        system["retrieval"] = {"abstracts": FOUND | {"ndcg_at_10": own} | on}
    made["texts"]["searched"] = {"abstracts": 0.0123}
    length = {"artifact": "int8", "check": "agreement by length", "value": 0.9123}
    made["verify"] += [length | {"figure": "cosine_mean_to_32"}, length | {"figure": "largest_gap"}]
    return made


def test_shares_are_of_the_teachers(run: dict[str, Any]) -> None:
    text = searching.pages({searching.NAME: run}, source, figures.table)[searching.PAGE]
    assert "| abstracts | 50.0 | 94.0 % | 97.0 % |" in text
    assert "1.23 % of abstracts are among the texts to train on" in text
    assert "| 32 | 0.9123 |" in text
    assert "largest" not in text
    assert text.count("| abstracts | 47.0 |") == len(run["bench"]["systems"]) - 1


def test_without_results_there_is_no_page(run: dict[str, Any]) -> None:
    assert searching.pages({}, source, figures.table) == {}
