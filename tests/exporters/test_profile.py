"""The profile counts every multiply-add of a graph, whatever form ONNX Runtime gives it, and times every node."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences

from compressor.artifact.copying import copy_consumer_files
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError
from exporters.graph.files import run_operators
from exporters.precision.calibrate import batches_of_texts
from exporters.precision.int8 import OnnxInt8
from exporters.runtime import profile as module
from exporters.runtime.profile import operations_of, profile
from exporters.search.forms import Form, Forms


def by_hand(rows: int, length: int, layers: int = 4, width: int = 32) -> int:
    """Count the operations of the tiny BERT: four products of width by width, two of width by twice that, attention."""
    weights = 4 * width * width + 2 * width * 2 * width
    return 2 * rows * layers * (length * weights + 2 * length * length * width)


def fed(ids: Any, mask: Any = None) -> dict[str, Any]:
    mask = np.ones(np.shape(ids), np.int64) if mask is None else mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


@pytest.mark.parametrize("kind", ["plain", "fp32", "int8"])
@pytest.mark.parametrize(("rows", "length"), [(1, 5), (3, 16)])
def test_all_forms_of_a_graph_do_the_same_work(
    kind: str, rows: int, length: int, artifacts: Callable[..., Path]
) -> None:
    folder = artifacts() / kind
    ids = np.random.default_rng(0).integers(5, 60, (rows, length))
    found = profile(folder, fed(ids), repeats=2)
    assert sum(one.operations for one in found) == by_hand(rows, length)
    assert all(one.seconds > 0 for one in found)
    assert [one.seconds for one in found] == sorted((one.seconds for one in found), reverse=True)
    # Every node that ran is there; those of constants alone were computed at load.
    assert {one.name: one.nodes for one in found} == run_operators(folder / GRAPH)


@pytest.fixture(scope="module")
def forms(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write an artifact's graph in a form, each once."""
    home = artifacts()
    written = Forms(home / "plain", OnnxInt8(), lambda: batches_of_texts(home / "fp32", sentences(50)))

    def make(precision: str, attention: str) -> Path:
        to = tmp_path_factory.getbasetemp() / "forms" / f"{precision}-{attention}"
        if not to.exists():
            copy_consumer_files(home / "fp32", to)
            written.write(Form.model_validate({"precision": precision, "attention": attention}), to / GRAPH)
        return to

    return make


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_attention_in_branches_counts_as_it_does_in_one_operator(
    precision: str, padded: bool, forms: Callable[..., Path]
) -> None:
    """Each layer's If holds two products and a softmax of the same names as every other layer's."""
    ids = np.random.default_rng(0).integers(5, 60, (3, 16))
    mask = np.ones_like(ids)
    mask[1, 9:] = not padded
    nodes, operations = {}, {}
    for attention in ("fused", "separate", "products"):
        found = profile(forms(precision, attention), fed(ids, mask), repeats=1)
        nodes[attention] = {one.name: one.nodes for one in found}
        operations[attention] = sum(one.operations for one in found)
    assert set(operations.values()) == {by_hand(3, 16)}
    branches = nodes["products"]
    assert (branches["FusedMatMul"], branches["Softmax"]) == (8, 4)
    assert "If" not in branches  # its time is that of what it holds
    fused, integers = ("Attention", "MatMul") if precision == "fp32" else ("QAttention", "MatMulIntegerToFloat")
    assert (nodes["fused"][fused], nodes["fused"][integers]) == (4, 3 * 4)
    assert branches[integers] == 6 * 4
    added = 4 if padded else 0  # the mask
    assert branches["Add"] - added == nodes["separate"]["Add"]


def _event(name: str, operator: str, ts: int, dur: int, **about: Any) -> dict[str, Any]:
    shapes = {"input_type_shape": [{"float": [2, 8]}], "output_type_shape": [{"float": [2, 4]}]}
    args = {"op_name": operator, "node_index": "0"} | shapes | about
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": args}


def test_each_event_belongs_to_its_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two Ifs with branches alike, one of them in a Loop that goes round twice; three runs, the first one slow."""

    def run(start: int, factor: int) -> list[dict[str, Any]]:
        at = (start + 10 * i for i in itertools.count())
        inner = [_event("MatMul_0", "MatMul", next(at), factor), _event("MatMul_0", "MatMul", next(at), 3 * factor)]
        return [
            _event("first", "MatMul", start - 30, 7 * factor),
            {"cat": "Session", "name": "SequentialExecutor::Execute", "ts": start, "dur": 1},
            inner[0],
            _event("MatMul_0", "If", start - 10, 500 * factor, node_index="1"),
            inner[1],
            _event("inner", "If", next(at) - 15, 500 * factor, node_index="0"),
            _event("MatMul_0", "MatMul", next(at), 3 * factor),
            _event("inner", "If", next(at) - 15, 500 * factor, node_index="0"),
            _event("loop", "Loop", start + 5, 2000 * factor, node_index="2"),
            _event("last", "Softmax", next(at), 2 * factor, node_index="3"),
            {"cat": "Session", "name": "model_run", "ts": start, "dur": 1},
        ]

    monkeypatch.setattr(module, "recorded", lambda *_: [*run(100, 1000), *run(1100, 2), *run(2100, 4)])
    product, softmax = profile(tmp_path, {}, repeats=2)
    assert (product.name, product.nodes) == ("MatMul", 3)  # not 1, and not 4
    assert product.seconds == pytest.approx((7 + 1 + 2 * 3) * 3e-6)  # the median of 2 and 4, without the warm-up
    assert product.operations == 4 * 2 * 2 * 8 * 4
    assert (softmax.name, softmax.nodes, softmax.seconds) == ("Softmax", 1, pytest.approx(6e-6))


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
    profile(folder, fed(np.full((1, 4), 7)), repeats=1)
    assert sorted(folder.rglob("*")) == before
    assert list(aside.iterdir()) == []


def test_what_cannot_be_run_is_said_in_one_line(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = artifacts() / "fp32"
    with pytest.raises(ArtifactError, match=r"model\.onnx: cannot be run: [^\n]+$"):
        profile(folder, fed(np.full((1, 4), 10**6)), repeats=1)
    (tmp_path / "onnx").mkdir()
    (tmp_path / GRAPH).write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"model\.onnx: cannot be loaded: [^\n]+$"):
        profile(tmp_path, fed(np.full((1, 4), 7)))


def test_a_nodes_time_is_its_median_and_a_loops_turns_add_up() -> None:
    def ran(node: str, seconds: float) -> Any:
        return module._Ran("MatMul", (node,), 0, seconds, 100)

    runs = [[ran("a", 1.0), ran("b", 2.0), ran("b", 3.0)], [ran("a", 9.0), ran("b", 1.0), ran("b", 1.0)]]
    [matmul] = module._by_operator([*runs, [ran("a", 2.0), ran("b", 4.0), ran("b", 5.0)]])
    assert (matmul.nodes, matmul.seconds, matmul.operations) == (2, 2.0 + 5.0, 300)
