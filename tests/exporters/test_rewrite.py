"""Other forms of a graph give the same vectors; ONNX Runtime keeps them, and where none can be had nothing changes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import sentences
from graphs import batch
from onnx import numpy_helper

from compressor.artifact.copying import copy_consumer_files
from compressor.artifact.layout import GRAPH
from exporters.graph.files import load, run_operators, save
from exporters.graph.rewrite import (
    attention_by_products,
    drop_unread,
    gelu_after_bias,
    relu_by_range,
    separate_products,
    tanh_gelu,
    unmasked_where_whole,
)
from exporters.precision.calibrate import batches_of_texts, dynamic_inputs, fix_ranges, measure_ranges
from exporters.precision.int8 import OnnxInt8
from exporters.precision.qdq import as_qdq
from exporters.session import OnnxEncoder

Rewrite = Callable[[onnx.ModelProto], int]
TEXTS = [*sentences(20), "", "the cat sleeps " * 40]


@pytest.fixture(scope="module")
def calibrated(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an int8 graph of fixed ranges."""
    fp32, to = artifacts("wide") / "fp32", tmp_path_factory.mktemp("calibrated") / "int8"
    copy_consumer_files(fp32, to)
    model = OnnxInt8().quantize(load(fp32 / GRAPH))
    fix_ranges(model, measure_ranges(load(fp32 / GRAPH), dynamic_inputs(model), batches_of_texts(fp32, sentences(100))))
    save(model, to / GRAPH)
    return to


def rewritten(folder: Path, to: Path, *rewrites: Rewrite) -> tuple[dict[str, int], float]:
    """Return the operators as run of a folder's graph rewritten, and the largest difference of vectors."""
    copy_consumer_files(folder, to)
    model = load(folder / GRAPH)
    assert all(rewrite(model) for rewrite in rewrites)
    drop_unread(model)
    save(model, to / GRAPH)
    onnx.checker.check_model(onnx.load(to / GRAPH))
    one, other = OnnxEncoder(folder, threads=1), OnnxEncoder(to, threads=1)
    worst = [np.abs(one.encode(TEXTS, 7) - other.encode(TEXTS, 7)).max()]
    random = np.random.default_rng(0)
    for rows, length in [(1, 1), (2, 64), (7, 17), (40, 33)]:  # masks that leave padding in, and one without
        ids = batch(random, rows, length, 90)
        worst.append(np.abs(one.run_ids(*ids) - other.run_ids(*ids)).max())
    hidden = [e._opened().side_by_side.run(["last_hidden_state"], _feed(e, *ids))[0] for e in (one, other)]
    real = ids[1].astype(bool)
    worst.append(np.abs(hidden[0][real] - hidden[1][real]).max() / 10)
    return run_operators(to / GRAPH), float(np.max(worst))


def _feed(encoder: OnnxEncoder, ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {name: feed[name] for name in encoder._inputs}


@pytest.mark.parametrize("family", [None, "roberta", "distilbert", "relu"])
@pytest.mark.parametrize("rewrite", [separate_products, unmasked_where_whole, attention_by_products])
def test_attention_in_fp32_stays_the_same(
    family: str | None, rewrite: Rewrite, artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    found, worst = rewritten(artifacts(family) / "fp32", tmp_path / "made", rewrite)
    assert worst < 1e-5
    assert "Attention" not in found


def test_relu_is_left_to_the_range_behind_it(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    fp32 = artifacts("relu") / "fp32"
    copy_consumer_files(fp32, tmp_path / "int8")
    model = OnnxInt8().quantize(load(fp32 / GRAPH))
    names = dynamic_inputs(model)
    assert relu_by_range(model) == 0  # ranges a batch say nothing of what is below zero
    fix_ranges(model, measure_ranges(load(fp32 / GRAPH), names, batches_of_texts(fp32, sentences(100))))
    save(model, tmp_path / "int8" / GRAPH)
    found, worst = rewritten(tmp_path / "int8", tmp_path / "made", relu_by_range)
    assert worst == 0.0  # what is cut by the range is what ReLU cuts
    assert run_operators(tmp_path / "int8" / GRAPH).get("MatMulIntegerToFloat") == found["MatMulIntegerToFloat"]
    assert "Relu" not in [node.op_type for node in load(tmp_path / "made" / GRAPH).graph.node]
    assert "Relu" not in [node.op_type for node in load(artifacts("relu") / "int8" / GRAPH).graph.node]
    shifted = load(tmp_path / "int8" / GRAPH)
    zeros = {node.input[2] for node in shifted.graph.node if node.op_type == "QuantizeLinear"}
    for tensor in shifted.graph.initializer:
        if tensor.name in zeros:
            tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.uint8), tensor.name))
    assert relu_by_range(shifted) == 0  # a range that reaches below zero cuts nothing


@pytest.mark.parametrize("rewrites", [(), (separate_products,), (attention_by_products,)])
def test_the_qdq_form_is_fused_again_at_load(rewrites: tuple[Rewrite, ...], calibrated: Path, tmp_path: Path) -> None:
    rewritten(calibrated, tmp_path / "operators", *rewrites)
    run, worst = rewritten(tmp_path / "operators", tmp_path / "qdq", as_qdq)
    assert worst < 1e-4
    assert run["MatMulIntegerToFloat"] == run_operators(tmp_path / "operators" / GRAPH)["MatMulIntegerToFloat"]
    written = [node.op_type for node in load(tmp_path / "qdq" / GRAPH).graph.node]
    assert "MatMulIntegerToFloat" not in written
    assert "DequantizeLinear" not in run


@pytest.mark.parametrize("rewrite", [separate_products, attention_by_products])
def test_attention_in_int8_stays_the_same(rewrite: Rewrite, calibrated: Path, tmp_path: Path) -> None:
    found, worst = rewritten(calibrated, tmp_path / "made", rewrite, gelu_after_bias)
    assert worst < 1e-4  # a sum in another order may fall on the other side of a step
    assert found["MatMulIntegerToFloat"] == 6 * 2
    assert found["Gelu"] == 2
    assert "BiasGelu" not in found
    written = (
        {"FusedMatMul": 8, "Softmax": 4, "If": 2} if rewrite is attention_by_products else {"MultiHeadAttention": 2}
    )
    assert written.items() <= found.items()  # as run: ONNX Runtime's own fusions leave it as it is


def test_ranges_of_each_batch_can_be_rewritten_too(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    found, worst = rewritten(artifacts("wide") / "int8", tmp_path / "made", attention_by_products)
    assert worst < 1e-4
    assert found["If"] == 2


def test_the_tanh_form_is_near_and_not_equal(calibrated: Path, tmp_path: Path) -> None:
    found, worst = rewritten(calibrated, tmp_path / "made", tanh_gelu)
    assert found["FastGelu"] == 2
    assert 0 < worst < 0.05


def test_what_cannot_be_rewritten_is_left(artifacts: Callable[..., Path]) -> None:
    relative = load(artifacts("mpnet") / "fp32" / GRAPH)
    before = relative.SerializeToString()
    assert separate_products(relative) == attention_by_products(relative) == gelu_after_bias(relative) == 0
    assert relative.SerializeToString() == before
    assert tanh_gelu(load(artifacts("relu") / "fp32" / GRAPH)) == 0


def test_tokens_that_meet_outside_attention_are_seen(artifacts: Callable[..., Path]) -> None:
    model = load(artifacts() / "fp32" / GRAPH)
    node = next(n for n in model.graph.node if n.op_type == "LayerNormalization" and "layer.1" in n.name)
    mixed = onnx.helper.make_node("CumSum", [node.output[0], "axis"], ["mixed"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1), "axis"))
    for other in model.graph.node:
        other.input[:] = ["mixed" if name == node.output[0] else name for name in other.input]
    model.graph.node.insert(list(model.graph.node).index(node) + 1, mixed)
    assert attention_by_products(model) == 0
