"""The search of a reader's form: judged by logits and answers, and run by OnnxReader as it was found."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Command, refusal
from questions import questions, write_squad

from compressor.artifact.folder import Artifact, writing
from compressor.artifact.layout import GRAPH
from compressor.core.errors import GateError, ModelError, RecipeError, TextError
from compressor.machine.describe import features
from compressor.untrusted.inspection import inspect
from exporters.graph.files import run_operators
from exporters.precision.int8 import OnnxInt8
from exporters.reader import OnnxReader
from exporters.runtime.running import Running
from exporters.search import trials as module
from exporters.search.contest import Ratio
from exporters.search.reader import ReaderSearch, ReaderSubject, invariance
from exporters.search.report import summary
from exporters.search.results import Searched

SAMPLE, DEV = questions(80), questions(40, seed=1)
LOOSE: dict[str, Any] = {"cosine_mean": 0.5, "cosine_min": -1.0, "same_answers": 0.0, "batch_cosine_min": 0.9}
FIGURES = {"cosine_mean", "cosine_min", "same_answers", "batch_cosine_min"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try few forms, and time none: attention by products and batches of 128 tokens are faster, all else is slower."""

    def timed(base: Any, rivals: dict[str, Any], turns: int) -> dict[str, Ratio]:
        fast = {name: 1.2 if "products" in name or "= 128" in name or name == "choice" else 0.9 for name in rivals}
        return {name: Ratio(speed, speed - 0.005, speed + 0.005, turns) for name, speed in fast.items()}

    monkeypatch.setattr(module, "contest", timed)
    monkeypatch.setattr(module, "_FORMS", (("attention", ("fused", "products")), ("weights", ("tensor",))))


def test_a_reader_is_searched_and_runs_as_was_found(
    reader: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = ReaderSearch(**LOOSE)
    with writing(tmp_path / "made", "optimise", "key", stage.model_dump(mode="json")) as made:
        stage.run(reader / "o", OnnxInt8(), SAMPLE, DEV, tmp_path / "kept", made)
    result = json.loads((tmp_path / "made" / "search.json").read_text("utf-8"))
    stages = [row["stage"] for row in result["trials"]]
    assert stages[:3] == ["start", "attention", "weights"]
    assert {"batch_tokens", "arena"} <= set(stages)
    assert "equal_lengths" not in stages
    choice = Artifact.open(tmp_path / "made").figures["choice"]
    assert choice == result["choice"]
    assert set(choice["figures"]) == FIGURES
    assert choice["cpu_features"] == features()
    assert choice["form"]["attention"] == "products"
    assert run_operators(tmp_path / "made" / GRAPH)["If"] == 4
    assert summary(Searched.read(result))[-1].endswith("(1.195 to 1.205, 9 turns), questions in and answers out.")
    assert [one.check for one in inspect(tmp_path / "made")] == ["files", "settings", "graph", "conformance"]
    found, usual = OnnxReader(tmp_path / "made"), OnnxReader(tmp_path / "made", running=Running())
    assert found.running == Running(batch_tokens=128)
    assert [one.text() for one in found.read(DEV)] == [one.text() for one in usual.read(DEV)]
    monkeypatch.setattr("exporters.runtime.running.features", lambda: ["sve", "avx2"])
    assert OnnxReader(tmp_path / "made").running == Running()  # another CPU


def test_figures_are_of_logits_and_answers(reader: Path) -> None:
    subject = ReaderSubject(reader / "o", SAMPLE, DEV, DEV)
    own, int8 = (subject.figures(reader / name) for name in ("o", "q"))
    assert set(own) == set(int8) == FIGURES
    assert own == pytest.approx(dict.fromkeys(FIGURES, 1.0), abs=1e-5)
    assert -1 <= int8["cosine_min"] <= int8["cosine_mean"] < 1 - 1e-6
    assert 0 <= int8["same_answers"] <= 1


def test_the_figures_are_those_of_windows_and_questions(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = ReaderSubject(reader / "o", SAMPLE, DEV, DEV)
    exact = subject._exact
    turned = [row.copy() for row in exact[0]]
    turned[3] *= -1
    answers = ["something else", *exact[1][1:]]
    monkeypatch.setattr(ReaderSubject, "_read", lambda self, opened: (turned, answers))
    figures = subject.figures(reader / "o")
    assert figures["cosine_min"] == pytest.approx(-1, abs=1e-6)
    assert figures["cosine_mean"] == pytest.approx(1 - 2 / len(turned), abs=1e-5)
    assert figures["same_answers"] == (len(DEV) - 1) / len(DEV)


class WithoutMask(OnnxReader):
    """Computes padding as if it were a question."""

    def run(self, features: dict[str, Any]) -> Any:
        return super().run(features | {"attention_mask": np.ones_like(features["attention_mask"])})


def test_invariance_is_of_the_same_tokens_alone_padded_and_together(reader: Path) -> None:
    opened = OnnxReader(reader / "o", threads=1)
    windows = opened.cutter.cut(DEV)
    for rows in (sound := invariance(opened, windows)):
        assert [len(row) for row in rows] == [2 * len(window.ids) for window in windows]
    for one, padded, together in zip(*sound, strict=True):
        np.testing.assert_allclose(one, padded, atol=1e-4)
        np.testing.assert_allclose(one, together, atol=1e-4)
    alone, padded, together = invariance(WithoutMask(reader / "o", threads=1), windows)
    assert max(np.abs(a - b).max() for a, b in zip(alone, padded, strict=True)) > 1e-2
    assert max(np.abs(a - b).max() for a, b in zip(alone, together, strict=True)) > 1e-2


def test_a_start_that_answers_otherwise_is_refused(
    reader: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = dict.fromkeys(FIGURES, 1.0)
    monkeypatch.setattr(ReaderSubject, "figures", lambda self, folder, running=None: sound | {"same_answers": 0.5})
    stage = ReaderSearch()
    with (
        pytest.raises(
            GateError, match=r"search: same_answers = 0\.5, must be >= 0\.9; the bar is search\.same_answers$"
        ),
        writing(tmp_path / "made", "optimise", "key", None) as made,
    ):
        stage.run(reader / "o", OnnxInt8(), SAMPLE, DEV, tmp_path / "kept", made)
    assert not (tmp_path / "made").exists()


def test_what_cannot_be_searched_is_one_line(reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, few = ReaderSearch(), DEV[:20]
    with (
        pytest.raises(TextError, match=r"^20 questions to choose by are too few to search on; 32 are needed$"),
        writing(tmp_path / "made", "optimise", "key", None) as made,
    ):
        stage.run(reader / "o", OnnxInt8(), SAMPLE, few, tmp_path / "kept", made)
    monkeypatch.setattr(ReaderSubject, "_read", lambda self, opened: ([np.full(4, np.nan, np.float32)], [""]))
    with pytest.raises(ModelError, match=r"o: logits hold NaN or infinity; its weights are damaged or too large$"):
        ReaderSubject(reader / "o", SAMPLE, DEV, DEV).figures(reader / "o")


def test_a_reader_runs_as_it_is_told_to(reader: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    real: Callable[..., Any] = OnnxReader._run

    def watched(opened: OnnxReader, session: Any, given: dict[str, Any]) -> Any:
        shapes.append(given["input_ids"].shape)
        return real(opened, session, given)

    monkeypatch.setattr(OnnxReader, "_run", watched)
    told = OnnxReader(reader / "o", threads=2, running=Running(threads=2, batch_tokens=64, arena=False))
    wanted = [one.text() for one in OnnxReader(reader / "o", threads=1).read(DEV)]
    shapes.clear()
    assert [one.text() for one in told.read(DEV)] == wanted
    assert max(rows * tokens for rows, tokens in shapes) <= 64
    again = pickle.loads(pickle.dumps(told))
    assert (again.running, again.threads) == (told.running, 2)


def test_the_command(command: Command, reader: Path, tmp_path: Path, quick: None) -> None:
    asked = write_squad(tmp_path / "asked.json", questions(400, seed=2))
    bars = ["--cosine-mean", "0.5", "--cosine-min=-1", "--same-answers", "0", "--batch-cosine-min", "0.9"]
    given = ["optimise", reader / "o", "--out", tmp_path / "made", "--questions", asked, *bars, "--count", "64"]
    status, out, err = command(*given)
    assert status == 0, err
    assert "Chosen for" in out
    assert "questions in and answers out." in out
    made = Artifact.open(tmp_path / "made")
    assert made.manifest["stage"] == "optimise"
    assert made.manifest["config"]["same_answers"] == 0
    assert not list(tmp_path.glob(".made-checkpoints-*"))
    assert len(OnnxReader(tmp_path / "made").read(DEV)) == len(DEV)
    status, out, _ = command(*given, "--limit", "330", "--json")
    assert (status, json.loads(out)["config"]["count"]) == (0, 64)


def test_what_belongs_to_the_other_task_is_refused(
    command: Command, reader: Path, sealed: Path, tmp_path: Path, texts: Path
) -> None:
    answers, vectors, to = reader / "o", sealed / "fp32", ["--out", tmp_path / "made"]
    asked = write_squad(tmp_path / "asked.json", DEV)
    wanted = "--questions: a reader needs them, and takes no --texts; give a file in SQuAD's format"
    lines: list[tuple[str, tuple[Any, ...]]] = [
        (wanted, (answers, "--texts", texts)),
        (wanted, (answers,)),
        (f"--questions {asked}: an option of readers; an encoder takes --texts", (vectors, "--questions", asked)),
        ("--speed-texts: an option of sentence-embedding; the model is for question-answering",
         (answers, "--questions", asked, "--speed-texts", "sts.csv")),
        ("--same-answers: an option of question-answering; the model is for sentence-embedding",
         (vectors, "--same-answers", "0.5")),
        ("4 questions to choose by are too few to search on; 32 are needed", (answers, "--questions", asked)),
        (f"{tmp_path}: no {GRAPH.as_posix()}; not an artifact with an ONNX graph", (tmp_path, "--questions", asked)),
    ]  # fmt: skip
    for line, words in lines:
        assert refusal(command("optimise", *words, *to)) == f"error: {line}"
    assert not (tmp_path / "made").exists()


def test_a_share_of_answers_is_a_share() -> None:
    with pytest.raises(
        RecipeError, match=r"^options: same_answers = -0\.1: input should be greater than or equal to 0$"
    ):
        ReaderSearch.read({"same_answers": -0.1})
