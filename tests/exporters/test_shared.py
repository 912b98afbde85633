"""What several operators read is changed for none of them: shared weights, tables, what branches and outputs read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import exporters.precision.smooth as smoothing
from compressor.core.errors import ModelError
from exporters.graph.files import constants, reads
from exporters.graph.rewrite import attention_by_products, drop_unread, gelu_after_bias, relu_by_range
from exporters.precision.calibrate import activations
from exporters.precision.smooth import smooth
from exporters.precision.tables import quantize_tables

WIDTH = 32
Values = NDArray[np.float32]


def stored(**values: NDArray[Any]) -> list[TensorProto]:
    return [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items()]


def model_of(
    nodes: list[onnx.NodeProto], constants: list[TensorProto], outputs: list[str], ids: bool = False
) -> onnx.ModelProto:
    kind, shape = (TensorProto.INT64, [None, None]) if ids else (TensorProto.FLOAT, [None, None, WIDTH])
    taken = [helper.make_tensor_value_info("input_ids", kind, shape)]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", taken, given, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def outputs(model: onnx.ModelProto, values: NDArray[Any]) -> list[Values]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"input_ids": values}))


def uneven(rows: int = WIDTH, columns: int = WIDTH, seed: int = 0) -> Values:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32) / 6


def batch(random: np.random.Generator) -> dict[str, Any]:
    values = random.standard_normal((4, 7, WIDTH)).astype(np.float32)
    return {"input_ids": values, "attention_mask": np.ones((4, 7), np.int64)}


WIDE = np.where(np.arange(WIDTH) % 16 == 0, 30, 1).astype(np.float32)
NORMAL = helper.make_node("LayerNormalization", ["input_ids", "scale"], ["normal"], axis=-1)


def relu_graph(*more: onnx.NodeProto, given: tuple[str, ...] = ("out",), **constants: Any) -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["input_ids", "up"], ["product"], "up"),
        helper.make_node("Add", ["product", "bias"], ["added"]),
        helper.make_node("Relu", ["added"], ["active"]),
        helper.make_node("MatMul", ["active", "down"], ["out"], "down"),
        *more,
    ]
    values = stored(up=uneven() * WIDE, down=uneven(seed=1), bias=WIDE, **constants)
    return model_of(nodes, values, list(given))


def two_layers() -> onnx.ModelProto:
    """Return two products of other values with one weight, as ALBERT's layers have them."""
    nodes = [
        NORMAL,
        helper.make_node("MatMul", ["normal", "shared"], ["first"], "first"),
        helper.make_node("LayerNormalization", ["first", "other"], ["again"], axis=-1),
        helper.make_node("MatMul", ["again", "shared"], ["out"], "second"),
    ]
    return model_of(nodes, stored(scale=WIDE, other=WIDE[::-1], shared=uneven()), ["out"])


def in_a_branch() -> onnx.ModelProto:
    """Return a product whose weight a branch reads, too."""

    def branch(name: str) -> onnx.GraphProto:
        inner = helper.make_node("MatMul", ["input_ids", "shared"], [name])
        return helper.make_graph([inner], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    nodes = [
        NORMAL,
        helper.make_node("MatMul", ["normal", "shared"], ["out"], "product"),
        helper.make_node("ReduceMax", ["input_ids"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["yes"]),
        helper.make_node("If", ["yes"], ["more"], then_branch=branch("then"), else_branch=branch("else")),
    ]
    return model_of(nodes, stored(scale=WIDE, shared=uneven(), zero=np.array(0, np.float32)), ["out", "more"])


SHARED = {
    "layers that are one": two_layers,
    "a branch": in_a_branch,
    "an output": lambda: relu_graph(given=("out", "down")),
    "a squared relu": lambda: relu_graph(helper.make_node("Mul", ["active", "active"], ["two"]), given=("out", "two")),
    "the sum before": lambda: relu_graph(given=("out", "added")),
    "the product before": lambda: relu_graph(given=("out", "product")),
    "the weight before": lambda: relu_graph(
        helper.make_node("MatMul", ["input_ids", "up"], ["two"], "two"), given=("out", "two")
    ),
    "the bias before": lambda: relu_graph(helper.make_node("Add", ["out", "bias"], ["two"]), given=("out", "two")),
    "a product that stays as it is": lambda: relu_graph(
        helper.make_node("MatMul", ["active", "head"], ["two"], "left"), given=("out", "two"), head=uneven(seed=2)
    ),
}


@pytest.mark.parametrize("kind", SHARED)
def test_smoothing_changes_nothing_that_others_read(kind: str) -> None:
    model, random = SHARED[kind](), np.random.default_rng(0)
    values = batch(random)["input_ids"]
    before = outputs(model, values)
    smooth(model, lambda: [batch(random)], "all", ["left"])
    for one, other in zip(before, outputs(model, values), strict=True):
        assert np.abs(one - other).max() < 1e-4 * np.abs(one).max()


def test_a_shared_bias_is_copied() -> None:
    """Biases of zeros are one constant in an exported graph; that costs no balance."""
    model = SHARED["the bias before"]()
    assert smooth(model, lambda: [batch(np.random.default_rng(0))], "values") == 1
    assert (numpy_helper.to_array(constants(model)["bias"]) == WIDE).all()


def test_a_balance_that_changes_vectors_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "_scale_units", lambda *_: None)
    with pytest.raises(
        ModelError, match=r"^smooth = values: out of the balanced fp32 graph differs by .* must be none"
    ):
        smooth(relu_graph(), lambda: [batch(np.random.default_rng(0))], "values")


def test_reads_count_branches_and_outputs() -> None:
    counts = reads(in_a_branch())
    assert counts["shared"] == 3
    assert counts["out"] == 1
    assert counts["nothing"] == 0


def test_what_a_branch_reads_is_not_dropped() -> None:
    model = in_a_branch()
    model.graph.initializer.extend(stored(unread=WIDE))
    del model.graph.node[1], model.graph.output[0]  # now the branches alone read it
    drop_unread(model)
    assert set(constants(model)) == {"scale", "shared", "zero"}


@pytest.mark.parametrize("reader", ["look-up", "product", "branch"])
def test_a_table_that_is_read_twice(reader: str) -> None:
    """Two look-ups share one int8 table; one that a product or a branch reads, too, stays as it is."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["out"], "first")]
    given, values = ["out"], np.array([[3, 999, 0]], np.int64)
    if reader == "look-up":
        nodes.append(helper.make_node("Gather", ["table", "input_ids"], ["more"], "second"))
    else:
        nodes.append(helper.make_node("Transpose", ["table"], ["turned"]))
        nodes.append(helper.make_node("MatMul", ["out", "turned"], ["more"]))
    if reader == "branch":
        inner = [
            helper.make_graph([node for node in nodes[1:]], name, [], [
                helper.make_tensor_value_info("more", TensorProto.FLOAT, None)
            ])
            for name in ("then", "else")
        ]  # fmt: skip
        nodes[1:] = [helper.make_node("If", ["yes"], ["more"], then_branch=inner[0], else_branch=inner[1])]
    constants_ = stored(table=uneven(1000), yes=np.array(True))
    model = model_of(nodes, constants_, [*given, "more"], ids=True)
    before = outputs(model, values)
    quantize_tables(model)
    drop_unread(model)
    assert ("table" in constants(model)) is (reader != "look-up")
    assert ("table.int8" in constants(model)) is (reader == "look-up")
    for one, other in zip(before, outputs(model, values), strict=True):
        assert np.abs(one - other).max() < 0.01


def test_a_bias_goes_into_no_product_that_others_read() -> None:
    product = helper.make_node(
        "MatMulIntegerToFloat", ["q", "w", "s", "ws", "z", "wz"], ["product"], domain="com.microsoft"
    )
    gelu = helper.make_node("BiasGelu", ["product", "bias"], ["out"], domain="com.microsoft")
    assert gelu_after_bias(model_of([product, gelu], [], ["out", "product"])) == 0
    assert gelu_after_bias(model_of([product, gelu], [], ["out"])) == 1


def test_a_relu_that_is_an_output_stays() -> None:
    nodes = [
        helper.make_node("Relu", ["input_ids"], ["active"]),
        helper.make_node("QuantizeLinear", ["active", "s", "z"], ["q"]),
    ]
    zero = stored(s=np.array(1, np.float32), z=np.array(0, np.uint8))
    assert relu_by_range(model_of(nodes, zero, ["active"])) == 0
    assert relu_by_range(model_of(nodes, zero, [])) == 1


def test_layers_that_others_read_are_not_turned(artifacts: Callable[..., Path]) -> None:
    """Tokens in front would reach who reads a layer's states from outside: the mean of two layers, say."""
    model = onnx.load(artifacts() / "fp32" / "onnx/model.onnx")
    inner = next(node.input[0] for node in reversed(model.graph.node) if node.op_type == "Attention")
    model.graph.output.append(helper.make_tensor_value_info(inner, TensorProto.FLOAT, None))
    assert attention_by_products(model) == 0
    del model.graph.output[-1]
    assert attention_by_products(model) > 0


SHAPES: dict[str, tuple[list[onnx.NodeProto], int]] = {
    "texts in front": ([helper.make_node("Identity", ["input_ids"], ["made"])], 5),
    "tokens in front": ([helper.make_node("Transpose", ["input_ids"], ["made"], perm=[1, 0, 2])], 5),
    "one axis": ([helper.make_node("Reshape", ["input_ids", "joined"], ["made"])], 5),
    "heads": (
        [
            helper.make_node("Reshape", ["input_ids", "split"], ["heads"]),
            helper.make_node("Transpose", ["heads"], ["made"], perm=[0, 2, 1, 3]),
        ],
        20,
    ),
    "texts alone": ([helper.make_node("ReduceMax", ["input_ids"], ["made"], axes=[1], keepdims=0)], 2),
    "a constant": ([helper.make_node("Identity", ["table"], ["made"])], 2),
    "a constant of the batch's shape": ([helper.make_node("Identity", ["alike"], ["made"])], 6),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_padding_is_left_out_only_where_it_is(kind: str) -> None:
    nodes, rows = SHAPES[kind]
    joined, split = np.array([-1, WIDTH]), np.array([0, 0, 4, WIDTH // 4])
    values = stored(joined=joined, split=split, table=np.ones((1, 2, WIDTH), np.float32),
                    alike=np.ones((2, 3, WIDTH), np.float32))  # fmt: skip
    model = model_of(nodes, values, ["made"])
    model.graph.node.append(helper.make_node("Identity", ["input_ids"], ["read"]))
    sample = {"input_ids": np.ones((2, 3, WIDTH), np.float32), "attention_mask": np.array([[1, 1, 1], [1, 1, 0]])}
    (made,) = activations(model, ["made"], [sample])
    assert made["made"].shape == (rows, WIDTH // 4 if kind == "heads" else WIDTH)
