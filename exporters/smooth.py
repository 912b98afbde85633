"""SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): wide units of activations made narrow, their weights wider.

How far is chosen for each activation, by what its products lose in int8 on a sample.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from exporters.calibrate import Batch, activations
from exporters.graph import constants, makers
from exporters.roles import ACTIVATIONS

Smooth = Literal["none", "values", "normalizations", "all"]
Floats = NDArray[np.float32]
_NORMALIZATIONS = {"LayerNormalization", "SkipLayerNormalization"}
_FREE = {"Attention", "Relu"}  # their units are scaled by weights before them: ReLU(s x) = s ReLU(x) for s > 0
_MADE_BY = {
    "values": _FREE,
    "normalizations": _FREE | _NORMALIZATIONS,
    "all": _FREE | _NORMALIZATIONS | ACTIVATIONS,
}
_STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7)  # beyond it, texts unlike the sample are cut at its widest values
_WORTH = 0.95  # of the error without it: what costs an operator must give as much
_TOKENS_A_BATCH = 64


@dataclass
class _Activation:
    """A tensor [texts, tokens, units] that goes into products, and what is known of it from a sample."""

    name: str
    maker: NodeProto
    readers: list[NodeProto]
    free: list[str]  # the weight and bias before it that take its scale at no price
    rows: list[Floats] = field(default_factory=list)
    low: Floats | float = np.inf
    high: Floats | float = -np.inf

    def see(self, values: Floats) -> None:
        """Take tokens of a batch, [tokens, units]."""
        self.low, self.high = np.minimum(self.low, values.min(axis=0)), np.maximum(self.high, values.max(axis=0))
        self.rows.append(values[:: -(-len(values) // _TOKENS_A_BATCH)])


def smooth(
    model: onnx.ModelProto, batches: Callable[[], Iterable[Batch]], what: Smooth, left: Collection[str] = ()
) -> int:
    """Balance activations and weights unit by unit, in place; return how many activations were balanced.

    ``values``: what attention and ReLU give, balanced in the weights before these, at no price. ``normalizations``:
    theirs as well; they go to the residual, too, so that their units are divided in an operator of their own. ``all``:
    behind each Gelu, too, which is wider. Products named in ``left`` are left out.
    """
    weights = constants(model)
    found = list(_found(model, weights, _MADE_BY.get(what, set()), left))
    if not found:
        return 0
    for made in activations(model, [one.name for one in found], batches()):
        for one in found:
            one.see(made[one.name])
    balanced = 0
    for one in found:
        scale = _best(one, [_value(weights[node.input[1]]) for node in one.readers], 1.0 if one.free else _WORTH)
        if scale is None:
            continue
        for node in one.readers:
            tensor = weights[node.input[1]]
            _set(tensor, _value(tensor) * scale[:, None])
        if one.free:
            _scale_units(weights, one.free, scale)
        else:
            _divide(model, one, scale)
        balanced += 1
    return balanced


def _found(
    model: onnx.ModelProto, weights: dict[str, TensorProto], kinds: set[str], left: Collection[str]
) -> Iterator[_Activation]:
    """Yield the activations made by operators of these kinds that go into products with weights, in their order."""
    made_by = makers(model)
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type in ("Attention", "MatMul") and node.input[1] in weights and node.name not in left:
            readers.setdefault(node.input[0], []).append(node)
    for name, nodes in readers.items():
        maker = made_by.get(name)
        if maker is None or maker.op_type not in kinds:
            continue
        free = _scalable(model, weights, maker)
        if free or maker.op_type not in _FREE:
            yield _Activation(name, maker, nodes, free)


def _best(one: _Activation, weights: Sequence[Floats], worth: float) -> Floats | None:
    """Return what to divide each unit by so that products lose least in int8; None where that is not worth it."""
    rows, weight = np.concatenate(one.rows), np.concatenate(weights, axis=1)
    exact = rows @ weight
    flat = np.ones(len(weight), np.float32)
    widest = np.maximum(np.abs(one.low), np.abs(one.high))
    scales = [_balance(widest, weight, strength) for strength in _STRENGTHS]
    errors = [_squared_error(one, rows, weight, exact, scale) for scale in (flat, *scales)]
    best = int(np.argmin(errors[1:]))
    return scales[best] if errors[1 + best] < worth * errors[0] else None


def _balance(activation: Floats, weight: Floats, strength: float) -> Floats:
    """Return what each unit is divided by: above 1 where the activation is wider than its weights."""
    rows = np.maximum(np.abs(weight).max(axis=1), 1e-5)
    scale = np.maximum(activation, 1e-5) ** strength / rows ** (1 - strength)
    return np.asarray(scale / np.exp(np.log(scale).mean()), np.float32)


def _squared_error(one: _Activation, rows: Floats, weight: Floats, exact: Floats, scale: Floats) -> float:
    """Return what int8 loses: activations with one scale and zero point over their range, weights a scale a column."""
    low, high = min(float(np.min(one.low / scale)), 0.0), max(float(np.max(one.high / scale)), 0.0)
    step = max(high - low, 1e-12) / 255
    balanced = weight * scale[:, None]
    steps = np.maximum(np.abs(balanced).max(axis=0), 1e-12) / 127
    product = (np.rint(rows / (scale * step)) @ np.rint(balanced / steps)) * (step * steps)
    return float(np.square(product - exact).sum(dtype=np.float64))


def _scalable(model: onnx.ModelProto, weights: dict[str, TensorProto], maker: NodeProto) -> list[str]:
    """Name the weight and the bias whose last columns make the units of an attention's values, or of a ReLU."""
    if maker.op_type == "Attention":
        return list(maker.input[1:3])
    if maker.op_type != "Relu":
        return []
    made_by = makers(model)
    added = made_by.get(maker.input[0])
    if added is None or added.op_type != "Add":
        return []
    bias = [name for name in added.input if name in weights]
    product = next((made_by[name] for name in added.input if name in made_by), None)
    alone = product is not None and product.op_type == "MatMul" and product.input[1] in weights
    return [product.input[1], *bias] if alone and product and bias else []


def _scale_units(weights: dict[str, TensorProto], names: Sequence[str], scale: Floats) -> None:
    for name in names:
        values = _value(weights[name]).copy()
        values[..., -len(scale) :] /= scale
        _set(weights[name], values)


def _divide(model: onnx.ModelProto, one: _Activation, scale: Floats) -> None:
    to = f"{one.name}.balanced"
    model.graph.initializer.append(numpy_helper.from_array(1 / scale, f"{to}.scale"))
    position = next(i for i, other in enumerate(model.graph.node) if one.name in other.output)
    for node in one.readers:
        node.input[0] = to
    model.graph.node.insert(position + 1, helper.make_node("Mul", [one.name, f"{to}.scale"], [to], name=to))


def _value(tensor: TensorProto) -> Floats:
    return numpy_helper.to_array(tensor)


def _set(tensor: TensorProto, values: Floats) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, np.float32), tensor.name))
