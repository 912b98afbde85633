"""What a command measured is not lost for want of a place: its file is claimed before anything is measured."""

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, refusal

from benchmarks.over_http.measure import OverHttp
from benchmarks.speed.growth import Growth
from benchmarks.speed.lengths import Lengths
from benchmarks.speed.limit import Limit
from benchmarks.speed.loadgen import Loadgen
from compressor.answering.training.augment import Augment


@pytest.mark.parametrize(
    ("name", "stage", "method"),
    [
        ("profile", Limit, "measure"),
        ("growth", Growth, "measure"),
        ("loadgen", Loadgen, "measure"),
        ("over-http", OverHttp, "measure"),
        ("lengths", Lengths, "measure"),
        ("augment", Augment, "run"),
    ],
)
def test_a_folder_is_refused_and_a_folder_is_made(
    name: str,
    stage: type,
    method: str,
    command: Command,
    texts: Path,
    tiny: Path,
    artifacts: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    to = tmp_path / "new" / "made.json"

    def measured(*_: object, **__: object) -> None:
        assert to.parent.is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, method, measured)
    questions = tmp_path / "q.json"
    questions.write_text(
        '{"version": "1.1", "data": [{"title": "", "paragraphs": [{"context": "a cat", "qas": [{"id": "1", '
        '"question": "who ?", "answers": [{"text": "cat", "answer_start": 2}]}]}]}]}'
    )
    given: list[object] = {"augment": [questions, "--model", tiny]}.get(name, [artifacts() / "int8", "--texts", texts])
    given += ["--teacher", tiny] * (name == "lengths")
    assert refusal(command(name, *given, "--out", tmp_path)) == f"error: {tmp_path}: a folder; give a file to write"
    assert command(name, *given, "--out", to)[0] == 130
