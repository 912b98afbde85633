"""Sets of figures are commands that exist, in an order in which each has what it reads; a failure ends the set."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.pages import figures, measure, sizes
from benchmarks.pages.measure import SETS, Step, main
from compressor.cli.table import COMMANDS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", SETS)
def test_every_step_is_a_command_on_what_is_there(name: str) -> None:
    made: set[str] = set()
    for step in SETS[name](Path("data")):
        command, *words = step.words
        assert command in COMMANDS
        for word in words:
            if word.startswith("recipes/"):
                assert (ROOT / word).is_file()
                made.add(f"runs/{Path(word).stem}")
            if word.startswith("runs/") and words[words.index(word) - 1] != "--out" and name != "limits":
                assert any(word.startswith(folder) for folder in made), word
        if "--out" in words:
            made.add(words[words.index("--out") + 1])
        made |= {f"{folder}-tradeoff" for folder in list(made) if command == "tradeoff"}


def test_every_figure_of_the_pages_has_a_command() -> None:
    made = {step.name for steps in SETS.values() for step in steps(Path("data")) if step.name}
    outs = {Path(word).stem for step in measure.limits(Path("data")) for word in step.words if word.startswith("docs/")}
    assert made | outs == set(figures.NAMES) | {"search-6-layers", sizes.NAME}


def test_forms_are_chosen_on_other_texts_than_are_reported() -> None:
    for step in measure.peers(Path("data")):
        given = dict(zip(step.words, step.words[1:], strict=False))
        if step.words[0] == "optimise":
            assert given["--speed-texts"] == "data/stsb/en-dev.csv"
        if step.words[0] in ("bench", "profile"):
            assert given["--speed-texts"] == "data/stsb/en-test.csv"


def test_results_are_carried_over_and_a_failure_ends_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ran(words: Any, check: bool) -> SimpleNamespace:
        asked.append(shlex.join(words[2:]))
        return SimpleNamespace(returncode=3 if "second" in words else 0)

    monkeypatch.setattr(measure.subprocess, "run", ran)
    monkeypatch.setattr(measure, "FIGURES", tmp_path / "figures")
    (tmp_path / "figures").mkdir()
    (tmp_path / "made.json").write_text("{}")
    steps = [Step((word,), tmp_path / "made.json", word) for word in ("first", "second", "third")]
    monkeypatch.setitem(SETS, "readme", lambda data: steps)
    assert main(["readme"]) == 3
    assert asked == ["-m compressor.cli first", "-m compressor.cli second"]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["first.json"]
    asked.clear()
    steps.pop(1)
    assert main(["readme"]) == 0
    assert asked[-1] == "-m benchmarks.pages.figures"


def test_the_list_runs_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure.subprocess, "run", None)
    assert main(["limits", "--list", "--data", "elsewhere"]) == 0
    assert capsys.readouterr().out.startswith(
        "compressor profile runs/fastest/6-layers --speed-texts elsewhere/stsb/en-test"
    )
