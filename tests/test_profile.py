"""The profile counts every multiply-add of a graph, whatever form ONNX Runtime gives it, and times every node."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compressor.errors import ArtifactError
from exporters.graph import run_operators
from exporters.layout import GRAPH
from exporters.profile import operations_of, profile


def by_hand(rows: int, length: int, layers: int = 4, width: int = 32) -> int:
    """Count the operations of the tiny BERT: four products of width by width, two of width by twice that, attention."""
    weights = 4 * width * width + 2 * width * 2 * width
    return 2 * rows * layers * (length * weights + 2 * length * length * width)


@pytest.mark.parametrize("kind", ["plain", "fp32", "int8"])
@pytest.mark.parametrize(("rows", "length"), [(1, 5), (3, 16)])
def test_all_forms_of_a_graph_do_the_same_work(
    kind: str, rows: int, length: int, artifacts: Callable[..., Path]
) -> None:
    folder = artifacts() / kind
    ids = np.random.default_rng(0).integers(5, 60, (rows, length))
    found = profile(folder, ids, np.ones_like(ids), repeats=2)
    assert sum(one.operations for one in found) == by_hand(rows, length)
    assert all(one.seconds > 0 for one in found)
    assert [one.seconds for one in found] == sorted((one.seconds for one in found), reverse=True)
    # Every node that ran is there; those of constants alone were computed at load.
    assert {one.name: one.nodes for one in found} == run_operators(folder / GRAPH)


@pytest.mark.parametrize(
    ("operator", "inputs", "outputs", "expected"),
    [
        ("MatMul", [[2, 5, 8], [8, 3]], [[2, 5, 3]], 2 * 2 * 5 * 8 * 3),
        ("MatMul", [[2, 4, 5, 8], [2, 4, 8, 5]], [[2, 4, 5, 5]], 2 * 2 * 4 * 5 * 8 * 5),
        ("FusedMatMul", [[2, 8, 5], [2, 8, 3]], [[2, 5, 3]], 2 * 2 * 5 * 8 * 3),  # the first transposed
        ("MatMulInteger", [[7, 8]], [[7, 3]], 2 * 7 * 8 * 3),  # weights packed away
        ("Attention", [[2, 5, 8], [24]], [[2, 5, 8]], 2 * 2 * 5 * (3 * 8 * 8 + 2 * 5 * 8)),
        ("QAttention", [[2, 5, 8], [8, 24], [24]], [[2, 5, 8]], 2 * 2 * 5 * (3 * 8 * 8 + 2 * 5 * 8)),
        ("MultiHeadAttention", [[2, 5, 8], [2, 7, 8], [2, 7, 8]], [[2, 5, 8]], 2 * 2 * 5 * 2 * 7 * 8),
        ("Softmax", [[2, 5, 5]], [[2, 5, 5]], 0),
    ],
)
def test_operations(operator: str, inputs: list[list[int]], outputs: list[list[int]], expected: int) -> None:
    assert operations_of(operator, inputs, outputs) == expected


def test_nothing_is_left_behind(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(artifacts() / "int8", tmp_path / "artifact"))
    aside = tmp_path / "aside"
    aside.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(aside))
    monkeypatch.chdir(aside)
    before = sorted(folder.rglob("*"))
    profile(folder, np.full((1, 4), 7), np.ones((1, 4), np.int64), repeats=1)
    assert sorted(folder.rglob("*")) == before
    assert list(aside.iterdir()) == []


def test_what_cannot_be_run_is_said_in_one_line(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = artifacts() / "fp32"
    with pytest.raises(ArtifactError, match=r"model\.onnx: cannot be run: [^\n]+$"):
        profile(folder, np.full((1, 4), 10**6), np.ones((1, 4), np.int64), repeats=1)
    (tmp_path / "onnx").mkdir()
    (tmp_path / GRAPH).write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"model\.onnx: cannot be loaded: [^\n]+$"):
        profile(tmp_path, np.full((1, 4), 7), np.ones((1, 4), np.int64))
