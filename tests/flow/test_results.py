"""Results are written and read as what they are."""

import json
from pathlib import Path
from typing import Any

import pytest

from compressor.core.errors import ArtifactError, CompressorError
from compressor.flow.results import Head, Measured, Results, TeacherFacts
from exporters.verify.check import Check

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
RUNS = ("minilm-l3-d256-int8", "minilm-qa", "minilm-light", "minilm-german", "minilm-l3-matryoshka", "minilm-l1")
CHECK = Check("int8", "answers", "f1_drop", 0.25, 0.5, "<=", "verify.f1_drop")


def results(**more: Any) -> Results:
    teacher = TeacherFacts("org/name", "local cache", "ab12", {"tries": [1, 2]})
    return Results(
        head=Head(name="tiny", task="t", created="2026-01-01T00:00:00+00:00", recipe={}, environment={"cores": 2},
                  teacher=teacher),
        measured=Measured("questions", {"train": 3}, [{"stage": "teacher"}], {"systems": []}),
        **{"command": "compressor run", "seconds": 1.5, "verify": [CHECK], "graphs": {"fp32": {"MatMul": 4}}} | more,
    )  # fmt: skip


def test_keys_come_in_their_order() -> None:
    made = results(own={"languages": None}).as_dict()
    assert list(made) == [
        "name", "task", "created", "recipe", "environment", "teacher", "questions", "story", "bench", "command",
        "seconds", "verify", "languages", "graphs",
    ]  # fmt: skip
    assert made["teacher"] == {"name": "org/name", "source": "local cache", "weights_sha256": "ab12", "tries": [1, 2]}
    assert made["verify"] == [CHECK.as_dict()]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = results(own={"languages": {"teacher": {}}})
    written.write(tmp_path / "results.json")
    read = Results.read(tmp_path / "results.json")
    assert read == written
    assert isinstance(read.verify[0], Check)
    assert read.verify[0].passed


@pytest.mark.parametrize("name", RUNS)
def test_results_of_every_release_are_read(name: str) -> None:
    path = FIGURES / f"{name}.json"
    stated = json.loads(path.read_text("utf-8"))
    read = Results.read(path)
    assert read.head.task == stated.get("task", "sentence-embedding")
    made = read.as_dict()
    assert [key for key in made if key in stated] == list(stated)
    for row in made["verify"]:  # of before bars could be off, or stand in a field
        row.pop("off")
        row.pop("field")
    known = [{key: value for key, value in row.items() if key not in ("off", "field")} for row in stated["verify"]]
    assert made["verify"] == known
    assert {key: value for key, value in made.items() if key not in ("verify", "task")} == {
        key: value for key, value in stated.items() if key not in ("verify", "task")
    }


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda stated: stated.pop("name"), "name: Field required"),
        (lambda stated: stated.pop("graphs"), "graphs: Field required"),
        (lambda stated: stated["verify"][0].pop("value"), "verify.0.value: Field required"),
        (lambda stated: stated["teacher"].pop("source"), "teacher.source: Field required"),
        (lambda stated: stated.update(seconds="long"), "seconds: Input should be a valid number, unable to parse .*"),
        (lambda stated: stated.update(story={}), "story: Input should be an instance of Sequence"),
        (lambda stated: stated.update(teacher=7), "teacher: Input should be .*"),
    ],
)
def test_what_are_no_results_is_refused_by_field(change: Any, fault: str, tmp_path: Path) -> None:
    stated, path = json.loads(json.dumps(results().as_dict())), tmp_path / "results.json"
    change(stated)
    path.write_text(json.dumps(stated))
    with pytest.raises(ArtifactError, match=rf"results\.json: not readable as results: {fault}") as caught:
        Results.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "7", "{", "null", '{"name": 1, "name": 2}'])
def test_other_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"results\.json: not readable as results: ") as caught:
        Results.read(tmp_path / "results.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match=r"none\.json: not readable as results: "):
        Results.read(tmp_path / "none.json")


def test_a_figure_that_is_no_number_is_named_by_its_place(tmp_path: Path) -> None:
    bad = results(graphs={"fp32": {"MatMul": float("nan")}})
    with pytest.raises(CompressorError, match=r"^graphs\.fp32\.MatMul = nan: no finite number"):
        bad.write(tmp_path / "results.json")


def test_checks_are_rows_and_rows_checks() -> None:
    row = CHECK.as_dict()
    assert list(row) == ["artifact", "check", "figure", "value", "bar", "direction", "field", "passed", "off"]
    assert Check.read(row) == CHECK
    missed = Check.read(row | {"value": 0.75, "passed": True})
    assert missed == Check(**{**vars(CHECK), "value": 0.75})
    assert not missed.passed
    assert Check.read({"artifact": "a", "check": "c", "figure": "f", "value": 1.0}) == Check("a", "c", "f", 1.0)
