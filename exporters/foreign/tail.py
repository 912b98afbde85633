"""Pooling, Dense and Normalize behind a graph that gives a vector a token, in operators of every opset from 11."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compressor.artifact.layout import EMBEDDING, INPUTS, TAIL
from compressor.core.errors import ModelError
from exporters.foreign.settings import Dense, Stated

ACTIVATIONS = ("Identity", "Tanh", "ReLU", "Sigmoid", "GELU")
_REDUCING = 18  # from this opset on, axes are an input of ReduceMax


def add_tail(model: onnx.ModelProto, hidden: str, width: int, stated: Stated) -> int:
    """Add what makes a vector a text of ``hidden``, float [batch, length, width], in place; return its length.

    ModelError for an activation that is none of ACTIVATIONS, and for a Dense of another width.
    """
    tail = _Tail(model)
    pooled = [tail.pooled(mode, hidden) for mode in stated.modes]
    vectors = pooled[0] if len(pooled) == 1 else tail.add("Concat", pooled, axis=-1)
    width *= len(pooled)
    for step in stated.steps:
        if step is not None and step.weight.shape[1] != width:
            raise ModelError(f"a Dense of {step.weight.shape[1]} units behind vectors of {width}")
        vectors = tail.unit(vectors) if step is None else tail.dense(vectors, step)
        width = width if step is None else step.weight.shape[0]
    tail.name(vectors, EMBEDDING[1])
    return width


def add_cut(model: onnx.ModelProto, vectors: str, width: int, dim: int) -> None:
    """Add what keeps the first ``dim`` components of ``vectors``, float [batch, width], in place."""
    kept = f"/{TAIL}.0/kept"
    model.graph.initializer.append(numpy_helper.from_array(np.eye(width, dim, dtype=np.float32), kept))
    model.graph.node.append(helper.make_node("MatMul", [vectors, kept], [EMBEDDING[1]], name=f"/{TAIL}.0/cut"))


class _Tail:
    """Adds nodes to a graph, named so that what follows the pooling is known."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph, self.made = model.graph, 0
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.mask = self.add("Cast", [INPUTS[1]], to=TensorProto.FLOAT)  # [batch, length]
        self.row = self._shaped(self.mask, [0, 1, -1])

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node; return the name of what it gives."""
        self.made += 1
        name = f"/{TAIL}.0/{operator}_{self.made}"
        self.graph.node.append(helper.make_node(operator, list(inputs), [f"{name}_output"], name=name, **attributes))
        return f"{name}_output"

    def name(self, given: str, name: str) -> None:
        """Call what the last node gives ``name``."""
        assert self.graph.node[-1].output[0] == given  # else others would read it under the old name
        self.graph.node[-1].output[0] = name

    def pooled(self, mode: str, hidden: str) -> str:
        """Pool float [batch, length, width] to [batch, width] as sentence-transformers does, padding on the right."""
        if mode == "cls":
            return self.add("Gather", [hidden, self._stored(np.array(0, np.int64))], axis=1)
        if mode == "max":
            return self._largest(hidden)
        if mode in ("mean", "mean_sqrt_len_tokens"):
            tokens = self._at_least(self.add("MatMul", [self.row, self._shaped(self.mask, [0, -1, 1])]))
            summed = self.add("MatMul", [self.row, hidden])
            divisor = tokens if mode == "mean" else self.add("Sqrt", [tokens])
            return self._shaped(self.add("Div", [summed, divisor]), [0, -1])
        weights = self._positions() if mode == "weightedmean" else self._last_token()
        row = self._shaped(weights, [0, 1, -1])
        summed = self.add("MatMul", [row, hidden])
        if mode == "weightedmean":
            whole = self._at_least(self.add("MatMul", [row, self._shaped(self.mask, [0, -1, 1])]))
            summed = self.add("Div", [summed, whole])
        return self._shaped(summed, [0, -1])

    def dense(self, vectors: str, dense: Dense) -> str:
        """Multiply [batch, in] by the weights."""
        made = self.add("MatMul", [vectors, self._stored(np.ascontiguousarray(dense.weight.T))])
        if dense.bias is not None:
            made = self.add("Add", [made, self._stored(dense.bias)])
        if dense.activation not in ACTIVATIONS:
            raise ModelError(f"a Dense with activation {dense.activation!a:.40}; taken are {', '.join(ACTIVATIONS)}")
        if dense.activation == "GELU":
            share = self.add("Erf", [self.add("Mul", [made, self._number(np.sqrt(0.5))])])
            half = self.add("Mul", [made, self._number(0.5)])
            return self.add("Mul", [half, self.add("Add", [share, self._number(1)])])
        if dense.activation == "Identity":
            return made
        return self.add({"ReLU": "Relu"}.get(dense.activation, dense.activation), [made])

    def unit(self, vectors: str) -> str:
        """Make vectors [batch, dim] of length 1; a zero vector stays zero."""
        squares = self.add("MatMul", [self._shaped(vectors, [0, 1, -1]), self._shaped(vectors, [0, -1, 1])])
        length = self._shaped(self.add("Sqrt", [squares]), [0, -1])
        return self.add("Div", [vectors, self.add("Max", [length, self._number(1e-12)])])

    def _largest(self, hidden: str) -> str:
        kept = self.add("Cast", [self._shaped(self.mask, [0, -1, 1])], to=TensorProto.BOOL)
        values = self.add("Where", [kept, hidden, self._number(-np.inf)])
        if self.opset < _REDUCING:
            return self.add("ReduceMax", [values], axes=[1], keepdims=0)
        return self.add("ReduceMax", [values, self._stored(np.array([1], np.int64))], keepdims=0)

    def _positions(self) -> str:
        """Return the place of each token, from 1, and 0 of padding."""
        return self.add("Mul", [self.add("CumSum", [self.mask, self._stored(np.array(1, np.int64))]), self.mask])

    def _last_token(self) -> str:
        """Return 1 for the last token of each text, and 0 for the others."""
        count = self._shaped(self.add("MatMul", [self.row, self._shaped(self.mask, [0, -1, 1])]), [0, -1])
        # A place less than the count is none: of whole numbers, 1 - min(1, count - place) tells them apart.
        before = self.add("Min", [self.add("Sub", [count, self._positions()]), self._number(1)])
        return self.add("Mul", [self.add("Sub", [self._number(1), before]), self.mask])

    def _at_least(self, count: str) -> str:
        return self.add("Max", [count, self._number(1e-9)])

    def _shaped(self, values: str, shape: Sequence[int]) -> str:
        return self.add("Reshape", [values, self._stored(np.array(shape, np.int64))])

    def _number(self, value: float) -> str:
        return self._stored(np.array(value, np.float32))

    def _stored(self, values: NDArray[np.generic]) -> str:
        self.made += 1
        name = f"/{TAIL}.0/stored_{self.made}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
        return name
