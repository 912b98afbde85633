"""Sums of int8 products are exact, whatever the processor; a graph with products in a branch is opened."""

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from compressor.machine.describe import saturates
from compressor.machine.exact import open_exact

WEIGHTS = np.full((64, 8), 127, np.int8)
ACTIVATIONS = np.full((2, 64), 255, np.uint8)
"""Two products of these are more than int16 holds."""


def product(name: str) -> GraphProto:
    """Return a graph that multiplies ``activations`` by ``weights``, which both stand outside it."""
    node = helper.make_node("MatMulInteger", ["activations", "weights"], [name])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.INT32, [2, 8])])


def model(branches: bool) -> ModelProto:
    graph = product("sums")
    inputs = [helper.make_tensor_value_info("activations", TensorProto.UINT8, [2, 64])]
    nodes = list(graph.node)
    if branches:
        inputs.append(helper.make_tensor_value_info("asked", TensorProto.BOOL, []))
        both = {"then_branch": product("then"), "else_branch": product("else")}
        nodes = [helper.make_node("If", ["asked"], ["sums"], **both)]
    whole = helper.make_graph(nodes, "whole", inputs, list(graph.output), [numpy_helper.from_array(WEIGHTS, "weights")])
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def sums(branches: bool) -> NDArray[np.int32]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = open_exact(model(branches).SerializeToString(), options, providers=["CPUExecutionProvider"])
    asked = {"asked": np.array(True)} if branches else {}
    found: NDArray[np.int32] = session.run(None, {"activations": ACTIVATIONS, **asked})[0]
    return found


def test_sums_are_exact() -> None:
    assert (sums(branches=False) == 64 * 255 * 127).all()


def test_products_in_a_branch_are_opened() -> None:
    assert sums(branches=True).shape == (2, 8)  # and saturate where they did: ONNX Runtime does not look into branches


def test_a_broken_graph_is_onnx_runtimes_error() -> None:
    with pytest.raises(Exception, match="INVALID_PROTOBUF"):
        open_exact(b"no graph", onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("architecture", "fast", "expected"),
    [("x86_64", False, True), ("AMD64", False, True), ("x86_64", True, False), ("aarch64", False, False)],
)
def test_x86_without_fast_int8_saturates(architecture: str, fast: bool, expected: bool) -> None:
    assert saturates(architecture, fast) is expected
