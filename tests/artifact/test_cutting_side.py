"""The side that a stranger's tokenizer.json cuts at: told, or refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
from artifacts import fault

from compressor.artifact.cases import truncation_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    return tmp_path


@pytest.mark.parametrize("truncation", [None, {}, {"direction": "Right"}, {"direction": "Left"}, {"direction": None}])
def test_the_side_is_told(folder: Path, truncation: Any) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({"truncation": truncation}))
    left = {"direction": "left"} if truncation == {"direction": "Left"} else {}
    assert truncation_of(folder) == {"max_length": 64} | left


@pytest.mark.parametrize(
    ("tokenizer", "line"),
    [
        ([], "must be an object"),
        ("x", "must be an object"),
        ({"truncation": "x"}, "truncation = 'x': must be an object or null"),
        ({"truncation": ["Left"]}, "truncation = ['Left']: must be an object or null"),
        ({"truncation": {"direction": 1}}, "truncation.direction = 1: must be Left or Right"),
        ({"truncation": {"direction": ["Left"]}}, "truncation.direction = ['Left']: must be Left or Right"),
        ({"truncation": {"direction": "up"}}, "truncation.direction = 'up': must be Left or Right"),
    ],
)
def test_anything_else_is_refused_in_one_line(folder: Path, tokenizer: Any, line: str) -> None:
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert fault(truncation_of, folder) == f"{folder / 'tokenizer.json'}: {line}"


def test_one_that_is_not_there_is_named(folder: Path) -> None:
    path = folder / "tokenizer.json"
    assert fault(truncation_of, folder) == f"{path}: not there, or not readable as JSON"
    path.write_text("{")
    assert fault(truncation_of, folder) == f"{path}: not there, or not readable as JSON"
