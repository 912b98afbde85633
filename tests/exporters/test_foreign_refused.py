"""Graphs that others exported, and their settings, that must not be opened: each refused in a line that names it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from others import GRAPH, changed, export_as_others, refused, restate, vectors

from compressor.core.errors import ModelError


def test_modules_that_are_code(own: Path) -> None:
    modules = json.loads((own / "modules.json").read_text())
    modules[1]["type"] = "evil.Pooling"
    (own / "modules.json").write_text(json.dumps(modules))
    assert "code is never run" in refused(own)


def test_pickled_weights(make_model: Callable[..., Path], tmp_path: Path) -> None:
    others = export_as_others(make_model(dense=12), tmp_path / "others")
    (others / "2_Dense/model.safetensors").rename(others / "2_Dense/pytorch_model.bin")
    assert "weights are pickled (pytorch_model.bin)" in refused(others)


def test_a_length_that_the_graph_has_no_positions_for(own: Path) -> None:
    restate(own / "sentence_bert_config.json", max_seq_length=65)
    assert "max_seq_length = 65: the graph has positions for 64 tokens" in refused(own)


def _outside(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    tensor.ClearField("raw_data")


def _operator(model: Any) -> None:
    model.graph.node.append(helper.make_node("Run", ["input_ids"], ["ran"], domain="evil"))


def _loop(model: Any) -> None:
    model.graph.node.append(helper.make_node("Loop", ["", ""], ["looped"], body=helper.make_graph([], "b", [], [])))


def _fixed(model: Any) -> None:
    for value in model.graph.input:
        value.type.tensor_type.shape.dim[1].dim_value = 64


def _places(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["b", "s"]))


def _nothing(model: Any) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "logits"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_outside, "is kept in another file; weights must be in the graph"),
        (_operator, "operator evil.Run: not one that is exported"),
        (_loop, "operator ai.onnx.Loop: not one that is exported"),
        (_fixed, "must be int64 of any [batch, length]"),
        (_places, "must be input_ids, and of attention_mask, token_type_ids what it reads"),
        (_nothing, "outputs logits; must have last_hidden_state, token_embeddings or sentence_embedding"),
    ],
)
def test_graphs_that_are_refused(own: Path, change: Callable[[Any], None], words: str) -> None:
    changed(own / GRAPH, change)
    assert words in refused(own)


def test_a_graph_that_is_none(own: Path) -> None:
    (own / GRAPH).write_bytes(b"\x08\x08 no graph")
    assert str(own / GRAPH) in refused(own)


def test_weights_among_the_inputs_are_none(own: Path) -> None:
    expected = vectors(own)

    def as_inputs(model: Any) -> None:
        for tensor in model.graph.initializer:
            shape = list(tensor.dims)
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, shape))

    changed(own / GRAPH, as_inputs)
    np.testing.assert_array_equal(vectors(own), expected)


def test_names_that_are_taken(own: Path) -> None:
    def named(model: Any) -> None:
        model.graph.output[0].name = "token_embeddings"
        model.graph.node.append(helper.make_node("Identity", ["last_hidden_state"], ["token_embeddings"]))

    changed(own / GRAPH, named)
    with pytest.raises(ModelError, match="is to be called last_hidden_state, which another tensor of the graph is"):
        vectors(own)


def test_bf16_or_other_numbers_are_refused(own: Path) -> None:
    def double(model: Any) -> None:
        zero = numpy_helper.from_array(np.array(0, np.int64), "zero")
        model.graph.initializer.append(zero)
        model.graph.node[-1].output[0] = "exact"
        cast = helper.make_node("Cast", ["exact"], ["last_hidden_state"], to=TensorProto.DOUBLE)
        model.graph.node.append(cast)
        model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE

    changed(own / GRAPH, double)
    assert "output last_hidden_state comes as float64" in refused(own)
