"""Attention in plain operators, read out of a graph."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import onnx
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

from exporters.graph.files import constants, makers, reads

BY_TOKEN = [0, 2, 1, 3]
"""Between [texts, heads, tokens, size] and [texts, tokens, heads, size], both ways."""


@dataclass(frozen=True)
class Heads:
    """What is split into heads: queries, keys or values."""

    name: str
    form: Literal["joined", "tokens", "heads"]
    """The tensor is [texts, tokens, width], [texts, tokens, heads, size] or [texts, heads, tokens, size]."""
    turns: tuple[str, str] | None = None
    """The cosines and sines that they are turned by, [1, 1, tokens, size] each."""


@dataclass(frozen=True)
class Layer:
    """An attention in plain operators."""

    sides: tuple[Heads, Heads, Heads]
    """Queries, keys, values."""
    width: int
    scale: float
    added: tuple[str, ...]
    """What is added to the scores."""
    end: NodeProto
    """The operator that gives [texts, tokens, width]."""


class Reader:
    """Reads attention out of a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model, self.made_by, self.stored = model, makers(model), constants(model)
        self.counts = reads(model)
        self.readers = {name: node for node in model.graph.node for name in node.input}

    def layers(self) -> Iterator[Layer]:
        for softmax in [node for node in self.model.graph.node if node.op_type == "Softmax"]:
            if layer := self._layer(softmax):
                yield layer

    def _layer(self, softmax: NodeProto) -> Layer | None:
        product = self._only_reader(softmax, "MatMul")
        turned = self._only_reader(product, "Transpose")
        end = self._only_reader(turned, "Reshape")
        if product is None or turned is None or end is None or product.input[0] != softmax.output[0]:
            return None
        width = self._width(end)
        terms = list(self._terms(softmax.input[0]))
        scores = [found for name in terms if (found := self._scores(name))]
        if width is None or _perm(turned) != BY_TOKEN or len(scores) != 1:
            return None
        name, pair, scale = scores[0]
        keys = self._keys(pair.input[1])
        if keys is None:
            return None
        sides = self._heads(pair.input[0]), keys, self._heads(product.input[1])
        return Layer(sides, width, scale, tuple(term for term in terms if term != name), end)

    def _only_reader(self, node: NodeProto | None, kind: str) -> NodeProto | None:
        if node is None or self.counts[node.output[0]] != 1:
            return None
        reader = self.readers.get(node.output[0])
        return reader if reader is not None and reader.op_type == kind else None

    def _maker(self, name: str, kind: str) -> NodeProto | None:
        node = self.made_by.get(name)
        return node if node is not None and node.op_type == kind else None

    def _width(self, end: NodeProto) -> int | None:
        """Return how wide what an attention gives is: the product behind it says so."""
        product = self._only_reader(end, "MatMul")
        weight = self.stored.get(product.input[1]) if product is not None else None
        return int(weight.dims[0]) if weight is not None and len(weight.dims) == 2 else None

    def _terms(self, name: str) -> Iterator[str]:
        if node := self._maker(name, "Add"):
            for part in node.input:
                yield from self._terms(part)
        else:
            yield name

    def _scores(self, name: str) -> tuple[str, NodeProto, float] | None:
        """Return a term, the product that it is a multiple of, and by what; None where it is none."""
        node, scale = self.made_by.get(name), 1.0
        if node is not None and node.op_type in ("Mul", "Div"):
            by = self._array(node.input[1])
            if by is None or by.size != 1 or not by.any():
                return None
            scale = float(by.flat[0]) if node.op_type == "Mul" else 1 / float(by.flat[0])
            node = self.made_by.get(node.input[0])
        return (name, node, scale) if node is not None and node.op_type == "MatMul" else None

    def _keys(self, name: str) -> Heads | None:
        """Return keys, of the product's own form of them: [texts, heads, size, tokens]."""
        turned = self._maker(name, "Transpose")
        if turned is None or _perm(turned) not in ([0, 1, 3, 2], [0, 2, 3, 1]):
            return None
        return self._heads(turned.input[0]) if _perm(turned) == [0, 1, 3, 2] else self._by_token(turned.input[0])

    def _heads(self, name: str) -> Heads:
        """Return what is split into heads, [texts, heads, tokens, size], with positions that it is turned by."""
        rotated = self._rotated(name)
        name, turns = rotated if rotated else (name, None)
        turned = self._maker(name, "Transpose")
        if turned is None or _perm(turned) != BY_TOKEN:
            return Heads(name, "heads", turns)
        return self._by_token(turned.input[0], turns)

    def _by_token(self, name: str, turns: tuple[str, str] | None = None) -> Heads:
        split = self._maker(name, "Reshape")
        if split is not None and self._is_projection(split.input[0]):
            return Heads(str(split.input[0]), "joined", turns)
        return Heads(name, "tokens", turns)

    def _rotated(self, name: str) -> tuple[str, tuple[str, str]] | None:
        """Return what is turned by rotary positions, half against half, and the cosines and sines; None for another."""
        total = self._maker(name, "Add")
        products = [self._maker(part, "Mul") for part in total.input] if total is not None else []
        if len(products) != 2 or products[0] is None or products[1] is None:
            return None
        straight, crossed = products[0], products[1]
        halves = self._maker(crossed.input[0], "Concat")
        if halves is None or len(halves.input) != 2:
            return None
        minus, second = self._maker(halves.input[0], "Neg"), self._maker(halves.input[1], "Slice")
        first = self._maker(minus.input[0], "Slice") if minus is not None else None
        if first is None or second is None or not straight.input[0] == first.input[0] == second.input[0]:
            return None
        return str(straight.input[0]), (str(straight.input[1]), str(crossed.input[1]))

    def _is_projection(self, name: str) -> bool:
        """Tell a product with a stored matrix, with or without a bias: [texts, tokens, width]."""
        node = self.made_by.get(name)
        if node is not None and node.op_type == "Add":
            node = next((self.made_by[part] for part in node.input if part in self.made_by), None)
        stored = self.stored.get(node.input[1]) if node is not None and node.op_type == "MatMul" else None
        return stored is not None and len(stored.dims) == 2

    def _array(self, name: str) -> NDArray[Any] | None:
        if name in self.stored:
            return numpy_helper.to_array(self.stored[name])
        node = self._maker(name, "Constant")
        return next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), None) if node else None


def _perm(node: NodeProto) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
