"""SmoothQuant (Xiao et al. 2022, arXiv:2211.10438): wide units of activations made narrow, their weights wider.

How far is chosen for each activation, by what its products lose in int8 on a sample.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from compressor.core.errors import ModelError
from exporters.graph.files import constants, makers, reads
from exporters.graph.roles import ACTIVATIONS
from exporters.precision.calibrate import Batch, activations

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
_COMPARED = 2  # batches
_ROUNDING = 1e-3  # of an output's largest value: float32 over some tens of layers


@dataclass
class _Activation:
    """A tensor of units that goes into products, and what is known of it from a sample."""

    name: str
    maker: NodeProto
    readers: list[NodeProto]
    free: list[tuple[NodeProto, int]]  # operators before it and which input, weight and bias, that take its scale
    rows: list[Floats] = field(default_factory=list)
    low: Floats | float = np.inf
    high: Floats | float = -np.inf

    def see(self, values: Floats) -> None:
        """Take tokens of a batch, [tokens, units]."""
        self.low, self.high = np.minimum(self.low, values.min(axis=0)), np.maximum(self.high, values.max(axis=0))
        self.rows.append(values[:: -(-len(values) // _TOKENS_A_BATCH)])


def smooth(
    model: onnx.ModelProto, batches: Callable[[], Iterable[Batch]], mode: Smooth, left: Collection[str] = ()
) -> int:
    """Balance activations and weights unit by unit, in place; return how many activations were balanced.

    ``values``: what attention and ReLU give, balanced in the weights before these, at no price. ``normalizations``:
    theirs as well; they go to the residual, too, so that their units are divided in an operator of their own. ``all``:
    behind each Gelu, too, which is wider. Products named in ``left`` are left out. ModelError where the balanced
    graph does not give what it gave before.
    """
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    weights = constants(model)
    candidates = list(_found(model, weights, _MADE_BY.get(mode, set()), left))
    if not candidates:
        return 0
    for values in activations(model, [activation.name for activation in candidates], batches()):
        for activation in candidates:
            activation.see(values[activation.name])
    balanced = sum(_balance_one(model, weights, activation) for activation in candidates if activation.rows)
    if balanced:
        _compare(exact, model, islice(batches(), _COMPARED), mode)
    return balanced


def _balance_one(model: onnx.ModelProto, weights: dict[str, TensorProto], activation: _Activation) -> bool:
    """Balance an activation, in place; return whether it was worth it."""
    scale = _best(
        activation, [_value(weights[node.input[1]]) for node in activation.readers], 1.0 if activation.free else _WORTH
    )
    if scale is None:
        return False
    for node in activation.readers:
        tensor = weights[node.input[1]]
        _set(tensor, _value(tensor) * scale[:, None])
    if activation.free:
        _scale_units(model, activation, scale)
    else:
        _divide(model, activation, scale)
    return True


def _compare(exact: onnx.ModelProto, balanced: onnx.ModelProto, batches: Iterable[Batch], mode: Smooth) -> None:
    """Hold a balanced graph's outputs against those of before; ModelError where they differ by more than rounding."""
    names, sample = [output.name for output in exact.graph.output], list(batches)
    for before, after in zip(activations(exact, names, sample), activations(balanced, names, sample), strict=True):
        for name in names:
            # Not max() of Python: it would pass over a NaN.
            worst = float(np.abs(before[name] - after[name]).max() / max(np.abs(before[name]).max(), 1e-12))
            if not worst <= _ROUNDING:
                raise ModelError(
                    f"smooth = {mode}: {name} of the balanced fp32 graph differs by {worst:.2g} of its largest value, "
                    f"at most {_ROUNDING:g} is rounding; a fault of the balancing: smooth must be none for this graph"
                )


def _found(
    model: onnx.ModelProto, weights: dict[str, TensorProto], kinds: set[str], left: Collection[str]
) -> Iterator[_Activation]:
    """Yield the activations made by operators of these kinds that go into products with weights, in their order.

    Only weights that nothing else reads: those that layers share, or that other values meet, stay as they are.
    """
    made_by, counts = makers(model), reads(model)
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        if node.op_type in ("Attention", "MatMul") and node.name not in left and _own(node.input[1], weights, counts):
            readers.setdefault(node.input[0], []).append(node)
    for name, nodes in readers.items():
        maker = made_by.get(name)
        if maker is None or maker.op_type not in kinds:
            continue
        # What other operators read, too, cannot be scaled where it is made.
        free = _scalable(weights, maker, made_by, counts) if counts[name] == len(nodes) else []
        if free or maker.op_type not in _FREE:
            yield _Activation(name, maker, nodes, free)


def _own(name: str, weights: Mapping[str, TensorProto], counts: Mapping[str, int]) -> bool:
    """Whether a tensor is a stored float matrix that one operator alone reads."""
    tensor = weights.get(name)
    return tensor is not None and tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2 and counts[name] == 1


def _best(activation: _Activation, weights: Sequence[Floats], worth: float) -> Floats | None:
    """Return what to divide each unit by so that products lose least in int8; None where that is not worth it."""
    rows, weight = np.concatenate(activation.rows), np.concatenate(weights, axis=1)
    exact = rows @ weight
    flat = np.ones(len(weight), np.float32)
    widest = np.maximum(np.abs(activation.low), np.abs(activation.high))
    scales = [_balance(widest, weight, strength) for strength in _STRENGTHS]
    errors = [_squared_error(activation, rows, weight, exact, scale) for scale in (flat, *scales)]
    best = int(np.argmin(errors[1:]))
    return scales[best] if errors[1 + best] < worth * errors[0] else None


def _balance(activation: Floats, weight: Floats, strength: float) -> Floats:
    """Return what each unit is divided by: above 1 where the activation is wider than its weights."""
    rows = np.maximum(np.abs(weight).max(axis=1), 1e-5)
    scale = np.maximum(activation, 1e-5) ** strength / rows ** (1 - strength)
    return np.asarray(scale / np.exp(np.log(scale).mean()), np.float32)


def _squared_error(activation: _Activation, rows: Floats, weight: Floats, exact: Floats, scale: Floats) -> float:
    """Return what int8 loses: activations with one scale and zero point over their range, weights a scale a column."""
    low, high = min(float(np.min(activation.low / scale)), 0.0), max(float(np.max(activation.high / scale)), 0.0)
    step = max(high - low, 1e-12) / 255
    balanced = weight * scale[:, None]
    steps = np.maximum(np.abs(balanced).max(axis=0), 1e-12) / 127
    product = (np.rint(rows / (scale * step)) @ np.rint(balanced / steps)) * (step * steps)
    return float(np.square(product - exact).sum(dtype=np.float64))


def _scalable(
    weights: Mapping[str, TensorProto],
    maker: NodeProto,
    made_by: Mapping[str, NodeProto],
    counts: Mapping[str, int],
) -> list[tuple[NodeProto, int]]:
    """Return where the weight and the bias stand whose last columns make an attention's values, or a ReLU's units.

    None where anything else reads the weight, or what comes about on the way.
    """
    if maker.op_type == "Attention":
        return [(maker, 1), (maker, 2)] if _own(maker.input[1], weights, counts) and maker.input[2] in weights else []
    added = made_by.get(maker.input[0])
    if maker.op_type != "Relu" or added is None or added.op_type != "Add":
        return []
    product = next((made_by[name] for name in added.input if name in made_by), None)
    if product is None or product.op_type != "MatMul" or not _own(product.input[1], weights, counts):
        return []
    columns = weights[product.input[1]].dims[1:]
    bias = [i for i, name in enumerate(added.input) if name in weights and weights[name].dims == columns]
    alone = counts[added.output[0]] == counts[product.output[0]] == 1
    return [(product, 1), (added, bias[0])] if bias and alone else []


def _scale_units(model: onnx.ModelProto, activation: _Activation, scale: Floats) -> None:
    """Divide the columns that make an activation's units; what others read, too, is copied before."""
    weights, counts = constants(model), reads(model)
    for node, place in activation.free:
        name = node.input[place]
        values = _value(weights[name]).copy()
        values[..., -len(scale) :] /= scale
        if counts[name] == 1:
            _set(weights[name], values)
            continue
        node.input[place] = f"{activation.name}.balanced.{place}"
        model.graph.initializer.append(numpy_helper.from_array(values, node.input[place]))


def _divide(model: onnx.ModelProto, activation: _Activation, scale: Floats) -> None:
    to = f"{activation.name}.balanced"
    model.graph.initializer.append(numpy_helper.from_array(1 / scale, f"{to}.scale"))
    position = next(i for i, node in enumerate(model.graph.node) if activation.name in node.output)
    for node in activation.readers:
        node.input[0] = to
    model.graph.node.insert(position + 1, helper.make_node("Mul", [activation.name, f"{to}.scale"], [to], name=to))


def _value(tensor: TensorProto) -> Floats:
    return numpy_helper.to_array(tensor)


def _set(tensor: TensorProto, values: Floats) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, np.float32), tensor.name))
