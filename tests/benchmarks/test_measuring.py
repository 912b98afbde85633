"""The commands that measure one artifact: their figures carry command, machine and graph; bad input is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Command, refusal
from questions import make_readers, questions, write_squad

from compressor.artifact.folder import sha256
from compressor.artifact.layout import GRAPH

SMALL = {
    "profile": ("--lengths", "8,16", "--threads", "1"),
    "growth": ("--counts", "1000,2000", "--threads", "1"),
}


@pytest.fixture
def artifact(artifacts: Callable[..., Path]) -> Path:
    return artifacts() / "int8"


@pytest.mark.parametrize(("name", "section"), [("profile", "limit"), ("growth", "growth")])
def test_figures_carry_what_they_were_taken_on(
    name: str,
    section: str,
    command: Command,  # noqa: F811
    texts: Path,  # noqa: F811
    artifact: Path,
    tmp_path: Path,
) -> None:
    to = tmp_path / "figures.json"
    status, out, _ = command(name, artifact, "--texts", texts, *SMALL[name], "--out", to, "--json")
    assert status == 0
    results: dict[str, Any] = json.loads(out)
    assert results == json.loads(to.read_text())
    assert results["command"].startswith(f"compressor {name} {artifact} --texts")
    assert results["environment"]["versions"]["onnxruntime"]
    assert results["artifact"]["graph_sha256"] == sha256(artifact / GRAPH)
    assert results[section]
    status, out, _ = command(name, artifact, "--texts", texts, *SMALL[name])
    assert status == 0
    assert "texts/s" in out


def test_growth_goes_on_from_its_file(
    command: Command,  # noqa: F811
    texts: Path,  # noqa: F811
    artifact: Path,
    tmp_path: Path,
) -> None:
    to = tmp_path / "growth.json"
    words = ("growth", artifact, "--texts", texts, *SMALL["growth"], "--out", to)
    assert command(*words)[0] == 0
    first = json.loads(to.read_text())
    _, _, err = command(*words)
    assert "a second" not in err  # nothing was streamed again
    assert json.loads(to.read_text())["growth"] == first["growth"]
    _, _, err = command(*words[:-2], "--batch-size", "8", "--out", to)
    assert err.count("a second") == 3  # another measurement
    for text in ("{", json.dumps({"key": first["key"], "growth": {"runs": [{"count": 1000}]}})):
        to.write_text(text)
        assert "growth.json: not readable as earlier figures" in refusal(command(*words))
        assert to.read_text() == text


@pytest.mark.parametrize("name", ["profile", "growth", "loadgen"])
def test_what_is_no_artifact_is_refused_at_once(
    name: str,
    command: Command,  # noqa: F811
    texts: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    line = refusal(command(name, tmp_path, "--texts", texts))
    assert line.endswith("no onnx/model.onnx; not an artifact with an ONNX graph")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profile", "--lengths", "4"), "= 4"),
        (("growth", "--counts", "10000"), "counts = [10000]"),
        (("loadgen", "--server-p99-ms", "0"), "server_p99_ms = 0.0"),
    ],
)
def test_what_is_not_allowed_is_named(words: tuple[str, ...], message: str, command: Command, artifact: Path) -> None:  # noqa: F811
    name, *options = words
    assert message in refusal(command(name, artifact, *options))


@pytest.fixture(scope="module")
def readers(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = make_readers(tiny, tmp_path_factory.mktemp("readers"))
    write_squad(home / "questions.json", questions(64, seed=1))
    return home


@pytest.mark.parametrize(("name", "section"), [("profile", "limit"), ("growth", "growth")])
def test_a_reader_is_measured_on_questions(name: str, section: str, command: Command, readers: Path) -> None:
    given = SMALL[name] if name == "growth" else ("--lengths", "16,32", "--threads", "1")
    status, out, _ = command(name, readers / "int8", "--questions", readers / "questions.json", *given, "--json")
    assert status == 0
    found = json.loads(out)[section]
    assert found["unit"] == "questions"
    rows = found["by_length"] if name == "profile" else found["rows"]
    assert all(row["questions_per_second"] > 0 for row in rows)
    assert len(rows) == 2


@pytest.mark.slow
def test_readers_are_measured_beside_their_teacher(command: Command, readers: Path) -> None:
    given = ("--count", "16", "--rounds", "2", "--queries", "20", "--batch-sizes", "4", "--lengths", "16")
    words = ("bench", readers / "fp32", readers / "int8", "--questions", readers / "questions.json")
    status, out, _ = command(*words, "--teacher", readers / "reader", *given, "--json")
    assert status == 0
    results = json.loads(out)
    assert results["task"] == "question-answering"
    teacher, fp32, int8 = results["bench"]["systems"]
    assert teacher["answers"]["f1"] == pytest.approx(fp32["answers"]["f1"], abs=2)
    assert int8["size_bytes"] < fp32["size_bytes"]
    status, out, _ = command(*words, "--teacher", readers / "reader", *given)
    assert status == 0
    assert "questions/s" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bench", "READER"), "--questions: a reader needs them, and takes no --texts"),
        (("bench", "READER", "--questions", "ASKED"), "--teacher: readers need it; give a question-answering folder"),
        (("bench", "READER", "--questions", "ASKED", "--peers", "all"), "--peers: an option of encoders"),
        (("bench", "READER", "ENCODER", "--questions", "ASKED"), "all must be for one task"),
        (("bench", "ENCODER", "--questions", "ASKED"), "--questions"),
        (("quantize", "READER32", "--texts", "TEXTS", "--out", "OUT"), "--texts: a reader's ranges are of questions"),
        (("quantize", "ENCODER32", "--questions", "ASKED", "--out", "OUT"), "an option of readers; an encoder takes"),
        (("profile", "READER", "--texts", "TEXTS"), "--questions: a reader needs them, and takes no --texts"),
        (
            ("growth", "READER", "--questions", "ASKED", "--speed-texts", "ASKED"),
            "--speed-texts: an option of encoders",
        ),
    ],
)
def test_the_other_tasks_options_are_refused(
    words: tuple[str, ...], message: str, command: Command, readers: Path, artifact: Path, texts: Path, tmp_path: Path
) -> None:
    more = {"READER32": readers / "fp32", "ENCODER32": artifact.parent / "fp32", "OUT": tmp_path / "out"}
    named = more | {
        "READER": readers / "int8",
        "ENCODER": artifact,
        "ASKED": readers / "questions.json",
        "TEXTS": texts,
    }
    assert message in refusal(command(*(named.get(word, word) for word in words)))
