"""SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): wide units of activations made narrow, their weights wider."""

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from exporters.calibrate import Batch, activations

_STRENGTH = 0.5
Floats = NDArray[np.float32]


def smooth(model: onnx.ModelProto, batches: Iterable[Batch], normalizations: bool) -> int:
    """Balance activations and weights unit by unit, in place; return how many activations were balanced.

    What attention gives is balanced in the weights of its values, at no price. What a normalization gives goes to the
    residual, too, so that its units are divided in an operator of their own: only where ``normalizations``.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    divided = [node for node in model.graph.node if node.op_type == "LayerNormalization" and normalizations]
    normalized = {node.output[0] for node in divided}
    values = {node.output[0]: node for node in model.graph.node if node.op_type == "Attention"}
    readers = [
        node
        for node in model.graph.node
        if node.op_type in ("Attention", "MatMul") and node.input[1] in weights
        and (node.input[0] in normalized or node.input[0] in values)
    ]  # fmt: skip
    names = list(dict.fromkeys(node.input[0] for node in readers))
    if not names:
        return 0
    widest: dict[str, Floats] = {}
    for made in activations(model, names, batches):
        for name, found in made.items():
            most = np.abs(found).max(axis=0)
            widest[name] = np.maximum(widest.get(name, most), most)
    for node in readers:
        name = node.input[0]
        weight = _value(weights[node.input[1]])
        scale = _balance(widest[name], weight)
        _set(weights[node.input[1]], weight * scale[:, None])
        if name in values:
            _scale_values(weights, values[name], scale)
        else:
            _divide(model, node, scale)
    return len(names)


def _balance(activation: Floats, weight: Floats) -> Floats:
    """Return what each unit is divided by: above 1 where the activation is wider than its weights."""
    rows = np.maximum(np.abs(weight).max(axis=1), 1e-5)
    scale = np.maximum(activation, 1e-5) ** _STRENGTH / rows ** (1 - _STRENGTH)
    return np.asarray(scale / np.exp(np.log(scale).mean()), np.float32)


def _scale_values(weights: dict[str, onnx.TensorProto], attention: onnx.NodeProto, scale: Floats) -> None:
    for name in attention.input[1:3]:
        both = _value(weights[name]).copy()
        both[..., -len(scale) :] /= scale
        _set(weights[name], both)


def _divide(model: onnx.ModelProto, node: onnx.NodeProto, scale: Floats) -> None:
    name, to = node.input[0], f"{node.output[0]}.balanced"
    model.graph.initializer.append(numpy_helper.from_array(1 / scale, f"{to}.scale"))
    position = next(i for i, other in enumerate(model.graph.node) if other == node)
    node.input[0] = to
    model.graph.node.insert(position, helper.make_node("Mul", [name, f"{to}.scale"], [to], name=to))


def _value(tensor: onnx.TensorProto) -> Floats:
    return numpy_helper.to_array(tensor)


def _set(tensor: onnx.TensorProto, values: Floats) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, np.float32), tensor.name))
