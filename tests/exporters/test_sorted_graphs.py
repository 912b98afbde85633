"""Operators of a graph that is saved stand behind those that they read from, as ONNX asks for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import sentences
from graphs import draft, quantize
from onnx import TensorProto, helper

from compressor.artifact.copying import copy_consumer_files
from compressor.artifact.layout import GRAPH
from exporters.graph.files import load, save, sort_nodes
from exporters.graph.rewrite import unmasked_where_whole
from exporters.precision.fp16 import Half
from exporters.session import OnnxEncoder


def branched() -> onnx.ModelProto:
    """Return a graph with an If, a branch of which reads what the operators around it give."""
    value = helper.make_tensor_value_info
    inner = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"], name="add"), helper.make_node("Neg", ["c"], ["d"], name="neg")],
        "then",
        [],
        [value("d", TensorProto.FLOAT, None)],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["e"])], "else", [], [value("e", TensorProto.FLOAT, None)]
    )
    graph = helper.make_graph(
        [
            helper.make_node("Abs", ["x"], ["a"], name="a"),
            helper.make_node("Exp", ["a"], ["b"], name="b"),
            helper.make_node("If", ["flag"], ["y"], name="if", then_branch=inner, else_branch=other),
            helper.make_node("Relu", ["y"], ["z"], name="relu"),
        ],
        "branched",
        [value("x", TensorProto.FLOAT, ["n"]), value("flag", TensorProto.BOOL, [])],
        [value("z", TensorProto.FLOAT, ["n"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def then_branch(model: onnx.ModelProto) -> onnx.GraphProto:
    return next(part.g for part in model.graph.node[2].attribute if part.name == "then_branch")


def in_order(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """Put the operators in another order."""
    by_name = {node.name: node for node in model.graph.node}
    own = [by_name[name] for name in names]
    del model.graph.node[:]
    model.graph.node.extend(own)
    return model


def test_what_stands_in_order_stays_as_it_is() -> None:
    model = branched()
    before = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(model)
    sort_nodes(model)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("names", [("if", "relu", "b", "a"), ("relu", "if", "b", "a"), ("a", "if", "b", "relu")])
def test_what_a_branch_reads_comes_first(names: tuple[str, ...]) -> None:
    model = in_order(branched(), *names)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    sort_nodes(model)
    onnx.checker.check_model(model)
    assert [node.name for node in model.graph.node] == ["a", "b", "if", "relu"]


def test_operators_of_a_branch_are_sorted_too() -> None:
    model = branched()
    inner = then_branch(model)
    inner.node.extend([inner.node[0]])
    del inner.node[0]
    assert [node.name for node in inner.node] == ["neg", "add"]
    sort_nodes(model)
    onnx.checker.check_model(model)
    assert [node.name for node in then_branch(model).node] == ["add", "neg"]


def test_a_circle_ends() -> None:
    model = branched()
    model.graph.node[0].input[0] = "z"
    sort_nodes(model)
    assert sorted(node.name for node in model.graph.node) == ["a", "b", "if", "relu"]


def test_each_artifact_is_one_for_the_checker(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    Half().run(artifacts() / "fp32", draft(tmp_path / "fp16"))
    for folder in (artifacts() / "fp32", artifacts() / "int8", tmp_path / "fp16"):
        onnx.checker.check_model(onnx.load(folder / GRAPH))


def test_int8_of_attention_in_branches_is_too(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    """Models of many positions have it so."""
    copy_consumer_files(artifacts() / "fp32", tmp_path / "long")
    model = load(artifacts() / "fp32" / GRAPH)
    assert unmasked_where_whole(model) == 4
    save(model, tmp_path / "long" / GRAPH)
    made = quantize(tmp_path / "long", draft(tmp_path / "int8"))
    assert [node.op_type for node in onnx.load(made / GRAPH).graph.node].count("If") == 4
    onnx.checker.check_model(onnx.load(made / GRAPH))
    Half().run(tmp_path / "long", draft(tmp_path / "fp16"))
    onnx.checker.check_model(onnx.load(tmp_path / "fp16" / GRAPH))
    texts = sentences(20)
    exact, near = (OnnxEncoder(folder).encode(texts) for folder in (artifacts() / "fp32", made))
    assert (exact * near).sum(axis=1).min() > 0.99
    assert np.isfinite(near).all()
