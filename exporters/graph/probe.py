"""What a tensor within a graph holds, found out by running the part of the graph that makes it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from compressor.artifact.layout import INPUTS
from exporters.graph.files import constants, makers, opened


def values(model: onnx.ModelProto, names: Iterable[str], mask: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the tensors ``names`` of texts of a token each, another one a text, behind ``mask`` [texts, tokens].

    What depends on the texts' content so differs between them; types are zero.
    """
    wanted = list(dict.fromkeys(names))
    part = _part(model, wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    ids = np.broadcast_to(np.arange(2, 2 + len(mask))[:, None], mask.shape)
    given = {INPUTS[0]: np.ascontiguousarray(ids), INPUTS[1]: mask}
    feeds = {value.name: given.get(value.name, np.zeros(mask.shape, np.int64)) for value in part.graph.input}
    with opened(part, options) as session:
        return dict(zip(wanted, session.run(wanted, feeds), strict=True))


def _part(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Return what makes ``names``, as a model of its own that gives them."""
    made_by, needed, waiting = makers(model), set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name and name not in needed:
            needed.add(name)
            if name in made_by:
                waiting += made_by[name].input
    inner = [node for node in model.graph.node if needed.intersection(node.output)]
    inputs = [value for value in model.graph.input if value.name in needed]
    stored = [tensor for name, tensor in constants(model).items() if name in needed]
    outputs = [helper.make_empty_tensor_value_info(name) for name in names]
    graph = helper.make_graph(inner, "part", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
