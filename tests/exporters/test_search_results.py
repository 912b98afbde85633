"""What a search tried and chose is written and read as what it is, and how close a form is."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressor.core.errors import RecipeError
from exporters.runtime.names import CPU, OPENVINO
from exporters.runtime.running import Running
from exporters.search.contest import Ratio
from exporters.search.forms import Form
from exporters.search.report import as_markdown, summary
from exporters.search.results import Choice, Searched, Trial
from exporters.verify.closeness import Closeness, _figures

COMMITTED = Path(__file__).parents[2] / "docs" / "figures" / "search-6-layers.json"
QUALITY = {"cosine_mean": 0.99, "cosine_min": 0.95, "batch_cosine_min": 1.0}
CHOICE = Choice(
    Form(attention="products"), Running(threads=2, arena=False), 3, "this", "a CPU", ["avx2"], QUALITY,
    Ratio(1.5, 1.25, 1.75, 9),
)  # fmt: skip
SEARCHED = Searched(
    {"cpu": "a CPU"},
    {"count": 64},
    [Trial("start", str(Form()), QUALITY, None, "start"), Trial("arena", "arena = False", {}, CHOICE.ratio, "kept")],
    str(Form()),
    CHOICE,
)


def test_a_committed_search_is_read_as_it_was_written() -> None:
    stated = json.loads(COMMITTED.read_text("utf-8"))
    read = Searched.read(stated)
    assert stated["choice"].setdefault("provider", CPU) == CPU  # it was searched before others were
    assert read.as_dict() == stated
    assert len(read.trials) == len(stated["trials"])
    assert {trial.ratio is None for trial in read.trials} == {True, False}
    assert str(read.choice.form) in summary(read)[1]


def test_what_is_written_is_read() -> None:
    written = json.loads(json.dumps(SEARCHED.as_dict()))
    assert list(written) == ["environment", "config", "trials", "start", "choice"]
    assert list(written["choice"]) == [
        "form", "running", "kept_products", "made_for", "cpu", "cpu_features", "provider", "figures",
        "ratio",
    ]  # fmt: skip
    assert written["trials"][0] == {
        "stage": "start", "name": str(Form()), "figures": QUALITY, "ratio": None, "verdict": "start",
    }  # fmt: skip
    assert written["trials"][1]["ratio"] == {"median": 1.5, "low": 1.25, "high": 1.75, "turns": 9}
    assert written["choice"]["running"] == CHOICE.running.as_dict()
    assert Searched.read(written) == SEARCHED


def test_a_search_without_timings_is_written_and_read() -> None:
    alone = Searched({}, {}, [], "", Choice(Form(), Running(), 0, "any", "any", [], QUALITY, None))
    assert Searched.read(json.loads(json.dumps(alone.as_dict()))) == alone
    assert summary(alone)[0] == "Chosen for any (any features):"
    assert len(summary(alone)) == 2


def test_a_choice_for_another_provider_says_so() -> None:
    figures = QUALITY | {"nodes_on_cpu_provider": 14.0}
    choice = Choice(Form(), Running(), 0, "this", "a CPU", ["avx2"], figures, None, f"{OPENVINO}:NUM_STREAMS=2")
    other = Searched({}, {}, [], "", choice)
    assert Searched.read(json.loads(json.dumps(other.as_dict()))) == other
    assert summary(other)[0] == f"Chosen for a CPU (avx2) on {OPENVINO}:NUM_STREAMS=2:"
    assert summary(other)[2] == f"14 of its nodes run on {CPU}."


def test_the_page_has_the_numbers() -> None:
    page = as_markdown(SEARCHED)
    assert "| arena | arena = False | 1.500 (1.250 to 1.750) |  |  |  | kept |" in page
    assert f"| start | {Form()} |  | 0.99 | 0.95 | 1 | start |" in page
    assert "1.500 times as fast as the start (1.250 to 1.750, 9 turns), text in and vectors out." in page


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"running": {"threads": 0}}, ValueError, r"^running\.threads = 0: must be a whole number from 1 to 1024$"),
        ({"form": {"precision": "int4"}}, RecipeError, r'precision = "int4"'),
    ],
)
def test_a_choice_that_is_none_is_refused(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Choice.read(CHOICE.as_dict() | change)


def test_closeness_is_of_the_cosines() -> None:
    found = _figures(np.array([1.0, 0.5, 0.75], np.float32), "held-out texts")
    assert found == Closeness(0.75, 0.5, 3, "held-out texts")
    assert list(found.as_dict()) == ["cosine_mean", "cosine_min", "count", "of"]
    assert Closeness.read(json.loads(json.dumps(found.as_dict()))) == found
