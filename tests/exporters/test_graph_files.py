"""What a form is made from is fp32: a matrix of any other kind is found wherever the graph has it, and named."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import GraphProto, NodeProto, TensorProto, helper

from compressor.core.errors import ArtifactError
from exporters.graph.files import require_fp32


def tensor(kind: int, *shape: int) -> TensorProto:
    """Return zeros of a ``kind`` and shape."""
    size = int(np.prod(shape)) * np.dtype(helper.tensor_dtype_to_np_dtype(kind)).itemsize
    return helper.make_tensor("weight", kind, shape, bytes(size), raw=True)


def graph(nodes: list[NodeProto], stored: list[TensorProto], name: str = "whole") -> GraphProto:
    return helper.make_graph(nodes, name, [], [], stored)


def constant(value: TensorProto) -> NodeProto:
    return helper.make_node("Constant", [], ["weight"], value=value)


def branch(nodes: list[NodeProto], stored: list[TensorProto]) -> NodeProto:
    """Return an If whose second branch holds them, within another If."""
    inner = helper.make_node(
        "If", ["some"], ["out"], then_branch=graph([], [], "then"), else_branch=graph(nodes, stored, "else")
    )
    return helper.make_node("If", ["some"], ["out"], then_branch=graph([inner], [], "outer"))


def written(path: Path, nodes: list[NodeProto], stored: list[TensorProto]) -> Path:
    onnx.save(helper.make_model(graph(nodes, stored)), path)
    return path


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (TensorProto.INT8, "int8"),
        (TensorProto.UINT8, "int8"),
        (TensorProto.FLOAT16, "fp16"),
        (TensorProto.BFLOAT16, "bfloat16"),
    ],
)
def test_a_matrix_of_another_precision_is_named_wherever_it_stands(kind: int, name: str, tmp_path: Path) -> None:
    odd = tensor(kind, 2, 3)
    for nodes, stored in (
        ([], [tensor(TensorProto.FLOAT, 4, 4), odd]),
        ([constant(odd)], []),
        ([branch([], [odd])], []),
        ([branch([constant(odd)], [])], []),
    ):
        path = written(tmp_path / "model.onnx", nodes, stored)
        with pytest.raises(ArtifactError) as caught:
            require_fp32(path, "fp16 is made")
        assert str(caught.value) == f"{path}: {name} already; fp16 is made from the fp32 graph"


def test_an_fp32_graph_passes_whatever_else_it_holds(tmp_path: Path) -> None:
    kinds = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
    exact = [tensor(kind, 2, 3) for kind in kinds]
    zero_point = tensor(TensorProto.UINT8, 3)  # a vector is no weight
    number = helper.make_node("Constant", [], ["one"], value_float=1.0)
    nodes = [number, *map(constant, exact), branch([constant(exact[0])], exact)]
    require_fp32(written(tmp_path / "model.onnx", nodes, [*exact, zero_point]), "int8 is made")


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (path := tmp_path / "model.onnx").write_bytes(b"\xff\xff\xff")
    for missing in (path, tmp_path / "none.onnx"):
        with pytest.raises(ArtifactError, match=rf"^{missing}: missing, or not a whole ONNX graph$"):
            require_fp32(missing, "int8 is made")
