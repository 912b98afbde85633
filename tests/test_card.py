"""The card says what the artifact is, and its example runs as it stands."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import draft

from compressor.artifact import Draft
from compressor.sentence_model import open_model
from compressor.stages import Model
from exporters.card import Publish
from exporters.layout import GRAPH
from exporters.onnx import Export
from exporters.optimise import run_operators
from exporters.quantize import OnnxInt8
from exporters.session import OnnxEncoder

CHECKS: list[dict[str, Any]] = [
    {
        "artifact": "fp32",
        "check": "parity with PyTorch",
        "figure": "max_difference",
        "value": 2.9e-7,
        "bar": 1e-5,
        "direction": "<=",
        "passed": True,
    },
    {
        "artifact": "int8",
        "check": "batch invariance",
        "figure": "cosine_min",
        "value": 0.98765,
        "bar": None,
        "direction": ">=",
        "passed": True,
    },
]


def publish(folder: Path, to: Path, precision: Any) -> Draft:
    stage = Publish(recipe={"name": "tiny"}, teacher="org/teacher", teacher_sha256="abc123", precision=precision)
    made = draft(to)
    stage.run(Model(folder, "k", {"operators": run_operators(folder / GRAPH)}), CHECKS, made)
    return made


def card(made: Draft) -> str:
    return (made.folder / "README.md").read_text("utf-8")


def test_the_card_names_what_it_is(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    text = card(publish(artifacts(dense=16) / "int8", tmp_path / "int8", "int8"))
    assert text.startswith("---\nlibrary_name: onnxruntime\n")
    assert "tags: [sentence-transformers, feature-extraction, sentence-similarity, onnx, int8]\n" in text
    assert "base_model: org/teacher\n---\n# tiny, int8\n" in text
    assert "Sentence embeddings of length 16 from texts of up to 64 tokens, int8, for ONNX Runtime." in text
    assert "Made from `org/teacher` (weights sha256 `abc123`)." in text
    assert "transformer, pooling, Dense, normalization" in text
    assert "`input_ids`, `attention_mask`, `token_type_ids` [batch_size, sequence_length]" in text
    assert "[batch_size, sequence_length, 32] and `sentence_embedding` [batch_size, 16]" in text
    assert "| batch invariance | cosine_min | 0.98765 |  |" in text
    assert "max_difference" not in text  # the other artifact's
    assert "{" not in text.split("```python")[0]


def test_the_other_card_names_the_other(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    text = card(publish(artifacts("roberta") / "fp32", tmp_path / "fp32", "fp32"))
    assert "tags: [sentence-transformers, feature-extraction, sentence-similarity, onnx]\n" in text
    assert "| parity with PyTorch | max_difference | 2.9e-07 | <= 1e-05 |" in text
    assert "Inputs int64 `input_ids`, `attention_mask` [batch_size" in text
    assert "Dense" not in text
    assert "enable_padding(pad_id=1)" in text


def test_the_folder_is_the_artifact_with_its_figures(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    source = artifacts() / "int8"
    made = publish(source, tmp_path / "int8", "int8")
    files = {p.relative_to(source) for p in source.rglob("*") if p.is_file()}
    assert {p.relative_to(made.folder) for p in made.folder.rglob("*") if p.is_file()} == files | {Path("README.md")}
    assert (made.folder / GRAPH).read_bytes() == (source / GRAPH).read_bytes()
    assert made.figures["checks"] == [CHECKS[1]]
    assert made.figures["operators"]["QAttention"] == 4
    assert made.figures["needs"] == {"onnxruntime": ">=1.24", "session_options": {}}


def test_a_later_stage_leaves_the_card_behind(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = publish(artifacts() / "fp32", tmp_path / "fp32", "fp32")
    OnnxInt8().run(made.folder, draft(tmp_path / "int8"))
    assert not (tmp_path / "int8" / "README.md").exists()
    assert (tmp_path / "int8" / "vocab.txt").is_file()


def example(text: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return found


@pytest.mark.parametrize(
    ("options", "precision", "tolerance"),
    [({}, "fp32", 1e-6), ({"dense": 16}, "int8", 1e-4), ({"family": "roberta"}, "fp32", 1e-6)],
    ids=["fp32", "int8", "roberta"],
)
def test_the_example_runs_as_it_stands(
    options: dict[str, Any], precision: str, tolerance: float, artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    made = publish(artifacts(**options) / precision, tmp_path / "made", precision)
    code = example(card(made)) + f"np.save({str(tmp_path / 'vectors.npy')!r}, vectors)\n"
    subprocess.run([sys.executable, "-c", code], cwd=made.folder, check=True)
    expected = OnnxEncoder(made.folder).encode(["A sentence.", "Another one."])
    got = np.load(tmp_path / "vectors.npy")
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < tolerance
    assert np.abs(got[0] - got[1]).max() > 1e-2


def test_the_example_puts_the_default_prompt_before_its_texts(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    model.prompts, model.default_prompt_name = {"ask": 'say "é"\n'}, "ask"
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    Export().run(tmp_path / "model", draft(tmp_path / "plain"))
    code = example(card(publish(tmp_path / "plain", tmp_path / "made", "fp32")))
    assert r'encode_batch(["say \"é\"\nA sentence.", "say \"é\"\nAnother one."])' in code
