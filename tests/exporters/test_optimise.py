"""Fusions happen, change nothing, and leave no trace of the machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import sentences
from graphs import batch, draft

from compressor.artifact.folder import sha256
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError
from exporters.graph.files import run_operators
from exporters.graph.optimise import Optimise
from exporters.session import OnnxEncoder

TEXTS = [*sentences(30), "", "the cat sleeps " * 40]


def optimised(plain: Path, folder: Path, **options: bool) -> dict[str, int]:
    """Optimise and return the operators as run, which the draft's figures must repeat."""
    made = draft(folder)
    Optimise(**options).run(plain, made)
    assert made.figures["operators"] == run_operators(folder / GRAPH)
    return made.figures["operators"]


def worst(left: Path, right: Path) -> float:
    """Return the largest difference of two folders' vectors, of texts and of random ids with padding left in."""
    one, other = OnnxEncoder(left, threads=1), OnnxEncoder(right, threads=1)
    figures = [np.abs(one.encode(TEXTS, 7) - other.encode(TEXTS, 7)).max()]
    random = np.random.default_rng(0)
    for rows, length in [(1, 1), (2, 64), (7, 17), (64, 33)]:
        ids = batch(random, rows, length, 90)
        figures.append(np.abs(one.run_ids(*ids) - other.run_ids(*ids)).max())
    return float(np.max(figures))


@pytest.mark.parametrize("layers", [2, 4])
def test_every_layer_is_fused_as_run(layers: int, artifacts: Callable[..., Path]) -> None:
    home = artifacts(layers=layers)
    plain, fused = run_operators(home / "plain" / GRAPH), run_operators(home / "fp32" / GRAPH)
    assert "Attention" not in plain
    assert (fused["Attention"], fused["BiasGelu"]) == (layers, layers)
    assert fused["LayerNormalization"] == 2 * layers + 1
    # Queries, keys and values are one product inside Attention; its output and the two of the feed-forward remain.
    assert fused["MatMul"] == 3 * layers
    assert "Softmax" not in fused
    assert "Erf" not in fused


@pytest.mark.parametrize(
    "options", [{}, {"dense": 16, "pooling": "cls"}, {"family": "distilbert"}, {"family": "mpnet"}]
)
def test_fused_equals_plain(options: dict[str, Any], artifacts: Callable[..., Path]) -> None:
    home = artifacts(**options)
    assert worst(home / "plain", home / "fp32") < 1e-5


def test_an_option_off_fuses_nothing(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    plain = artifacts() / "plain"
    found = optimised(plain, tmp_path / "a", attention=False)
    assert "Attention" not in found
    assert (found["Softmax"], found["BiasGelu"]) == (4, 4)
    optimised(plain, tmp_path / "b", gelu=False)
    saved = [node.op_type for node in onnx.load(tmp_path / "b" / GRAPH).graph.node]
    assert (saved.count("BiasGelu"), saved.count("Erf"), saved.count("Attention")) == (0, 4, 4)


def test_skip_normalization_is_fused_where_asked_for(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    plain = artifacts() / "plain"
    found = optimised(plain, tmp_path / "skip", skip_normalization=True)
    assert found["SkipLayerNormalization"] == 2 * 4
    assert worst(plain, tmp_path / "skip") < 1e-5
    # Left out by default: on CPUs it is the slower form. ONNX Runtime must not bring it back at load.
    assert "SkipLayerNormalization" not in run_operators(artifacts() / "fp32" / GRAPH)


def test_relative_positions_are_fused_too(artifacts: Callable[..., Path]) -> None:
    found = run_operators(artifacts("mpnet") / "fp32" / GRAPH)
    assert "Softmax" not in found
    assert (found["MultiHeadAttention"], found["BiasGelu"]) == (2, 2)


def test_optimising_repeats_byte_for_byte(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    optimised(artifacts() / "plain", tmp_path / "again")
    assert sha256(tmp_path / "again" / GRAPH) == sha256(artifacts() / "fp32" / GRAPH)


def test_the_graph_states_what_it_needs_and_nothing_of_the_machine(artifacts: Callable[..., Path]) -> None:
    for stage in ("fp32", "int8"):
        path = artifacts(dense=16) / stage / GRAPH
        model = onnx.load(path)
        opsets = [(entry.domain, entry.version) for entry in model.opset_import]
        assert ("com.microsoft", 1) in opsets
        assert ("", 17) in opsets
        assert len(set(opsets)) == len(opsets)
        assert {node.domain for node in model.graph.node} <= {"", "com.microsoft"}
        assert (model.producer_name, model.producer_version) == ("compressor", "")
        assert str(Path.home()).encode() + b"/" not in path.read_bytes()
        assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("content", [b"", b"no graph", None], ids=["empty", "text", "truncated"])
def test_a_broken_graph_is_one_line(content: bytes | None, artifacts: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    whole = (artifacts() / "fp32" / GRAPH).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ArtifactError, match=r"^.*model\.onnx: cannot be loaded: ") as caught:
        run_operators(path)
    assert "\n" not in str(caught.value)
