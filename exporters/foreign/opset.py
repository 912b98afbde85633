"""Graphs of older and newer opsets, brought to one that artifacts may have."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, shape_inference, version_converter

from compressor.core.errors import ArtifactError, first_line
from compressor.untrusted.graph import OPSETS
from exporters.graph.files import load
from exporters.runtime.names import CPU

_SOFTMAX = 13  # from this opset on, Softmax is of one axis; before, of all from its axis on
_ASIDE = "com.microsoft"  # what is of this domain, the converter leaves alone


def to_opset(graph: Path, source: Path) -> None:
    """Bring a graph to an opset that artifacts may have, in place; ArtifactError, naming ``source``, where none can."""
    model = load(graph)
    low, high = OPSETS[""]
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    wanted = min(max(version, low), high)
    if version == wanted:
        return
    try:
        model = shape_inference.infer_shapes(model, data_prop=True)  # other forms hang on how many axes there are
        aside = _softmaxes(model) if version < _SOFTMAX else []
        model = version_converter.convert_version(model, wanted)
    except Exception as error:  # the converter raises its own kinds
        why = f"opset {version} cannot be brought to {wanted}: {first_line(error)}"
        raise ArtifactError(f"{source}: {why}") from error
    _bring_back(model, aside)
    del model.graph.value_info[:]
    onnx.save(model, graph)


def _softmaxes(model: onnx.ModelProto) -> list[str]:
    """Put each Softmax of the last axis aside, and name what it gives: it means the same in every opset.

    The converter would write it with a Flatten, and no attention would be found around it.
    """
    found = [node for node in model.graph.node if node.op_type == "Softmax"]
    ranks, names = _ranks(model, [node.output[0] for node in found]), []
    for node in found:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        if axis in (-1, ranks[node.output[0]] - 1):
            node.domain = _ASIDE
            names.append(node.output[0])
    if names and not any(entry.domain == _ASIDE for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(_ASIDE, 1))
    return names


def _ranks(model: onnx.ModelProto, names: list[str]) -> dict[str, int]:
    """Return how many axes tensors have, as they come: what exporters reshape by hides it from what reads graphs."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(probe.SerializeToString(), providers=[CPU])
    tokens = np.ones((1, 4), np.int64)
    made = session.run(names, {value.name: tokens for value in session.get_inputs()}) if names else []
    return {name: values.ndim for name, values in zip(names, made, strict=True)}


def _bring_back(model: onnx.ModelProto, names: list[str]) -> None:
    for node in model.graph.node:
        if node.op_type == "Softmax" and node.output[0] in names:
            node.domain = ""
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("axis", -1))
