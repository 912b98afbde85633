"""Attention that adds a bias to its scores, as relative positions do, written as the operator that takes one."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from compressor.artifact.layout import INPUTS
from exporters.graph.files import constants, makers, reads
from exporters.graph.probe import values
from exporters.graph.rewrite import drop_dead, replace

_DOMAIN = "com.microsoft"
_LOW = -10_000.0  # what is added to the scores of padding, at most
_MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]], np.int64)
_PADDING, _STEM = "attention.padding", "attention.bias"


@dataclass(frozen=True)
class _Layer:
    """An attention in plain operators, from its projections [texts, tokens, width] to what it gives."""

    query: str
    key: str
    value: str
    width: int
    head: int
    scale: float
    added: tuple[str, ...]
    """What is added to the scores."""
    end: NodeProto


def fuse_biased(model: onnx.ModelProto) -> int:
    """Write attention over plain heads as ``MultiHeadAttention``, in place; return how many were.

    What is added to its scores is looked at by running it: padding becomes the operator's mask, and what all texts
    have in common, or what joins both, its bias. An attention of another kind stays as it is.
    """
    layers = list(_layers(model))
    kinds = _Added(model, {name for layer in layers for name in layer.added})
    changed = 0
    for layer in layers:
        inputs = kinds.inputs(layer.added)
        if inputs is None:
            continue
        attention = helper.make_node(
            "MultiHeadAttention",
            [layer.query, layer.key, layer.value, "", *inputs],
            [layer.end.output[0]],
            name=f"{layer.end.output[0]}.attention",
            domain=_DOMAIN,
            num_heads=layer.width // layer.head,
            scale=layer.scale,
        )
        replace(model, layer.end, [*kinds.pop(), attention])
        changed += 1
    drop_dead(model)
    return changed


class _Added:
    """What the terms are that are added to scores, and the operators that bring them into the fused one's inputs."""

    def __init__(self, model: onnx.ModelProto, terms: set[str]) -> None:
        self.model, self.nodes = model, list[NodeProto]()
        self.made = set[str]()
        common = {name: inner for name in terms for inner in [_unexpanded(makers(model), name)]}
        names = {*terms, *common.values()}
        full = values(model, names, np.ones_like(_MASK)) if names else {}
        padded = values(model, names, _MASK) if names else {}
        self.padding = {name for name in terms if _is_padding(full[name], padded[name])}
        same = {name for name in names if full[name].shape == padded[name].shape and (full[name] == padded[name]).all()}
        self.common = {n: inner for n, inner in common.items() if inner in same and _is_bias(full[inner], 1)}
        self.whole = {name for name in terms if _is_bias(padded[name], len(_MASK))}

    def inputs(self, added: Sequence[str]) -> list[str] | None:
        """Return the operator's inputs for mask and bias; None for terms that it has no place for."""
        padding = [name for name in added if name in self.padding]
        rest = [name for name in added if name not in self.padding]
        if not rest:
            return [self._padding() if padding else ""]
        if all(name in self.common for name in rest):
            return [self._padding() if padding else "", self._sum([self.common[name] for name in rest])]
        if all(name in self.whole for name in added):  # a window of tokens and padding in one
            return ["", self._sum(added)]
        return None

    def pop(self) -> list[NodeProto]:
        """Return the operators that ``inputs`` asked for, each once."""
        nodes, self.nodes = self.nodes, []
        return nodes

    def _padding(self) -> str:
        if _PADDING not in self.made:
            self.made.add(_PADDING)
            self.nodes.append(helper.make_node("Cast", [INPUTS[1]], [_PADDING], to=TensorProto.INT32, name=_PADDING))
        return _PADDING

    def _sum(self, names: Iterable[str]) -> str:
        total, *more = names
        for name in more:
            both = f"{_STEM}.{len(self.made)}"
            self.made.add(both)
            self.nodes.append(helper.make_node("Add", [total, name], [both], name=both))
            total = both
        return total


def _layers(model: onnx.ModelProto) -> Iterator[_Layer]:
    made_by, counts, stored = makers(model), reads(model), constants(model)
    readers: dict[str, NodeProto] = {name: node for node in model.graph.node for name in node.input}

    def only_reader(name: str, kind: str) -> NodeProto | None:
        node = readers.get(name)
        return node if node is not None and counts[name] == 1 and node.op_type == kind else None

    for softmax in [node for node in model.graph.node if node.op_type == "Softmax"]:
        product = only_reader(softmax.output[0], "MatMul")
        turned = only_reader(product.output[0], "Transpose") if product is not None else None
        end = only_reader(turned.output[0], "Reshape") if turned is not None and _perm(turned) == [0, 2, 1, 3] else None
        if product is None or end is None or product.input[0] != softmax.output[0]:
            continue
        terms = list(_terms(made_by, softmax.input[0]))
        scores = [found for name in terms if (found := _scores(made_by, stored, name))]
        if len(scores) != 1:
            continue
        name, pair, scale = scores[0]
        query, key = _heads(made_by, stored, pair.input[0]), _turned_heads(made_by, stored, pair.input[1])
        value = _heads(made_by, stored, product.input[1])
        if query is None or key is None or value is None or not query[1] == key[1] == value[1]:
            continue
        width = _width(made_by, stored, query[0])
        if width is not None and width % query[1] == 0:
            added = tuple(term for term in terms if term != name)
            yield _Layer(query[0], key[0], value[0], width, query[1], scale, added, end)


def _terms(made_by: dict[str, NodeProto], name: str) -> Iterator[str]:
    node = made_by.get(name)
    if node is not None and node.op_type == "Add":
        for part in node.input:
            yield from _terms(made_by, part)
    else:
        yield name


def _scores(
    made_by: dict[str, NodeProto], stored: dict[str, TensorProto], name: str
) -> tuple[str, NodeProto, float] | None:
    """Return a term, the product that it is a multiple of, and by what; None where it is none."""
    node, scale = made_by.get(name), 1.0
    if node is not None and node.op_type in ("Mul", "Div"):
        by = _number(made_by, stored, node.input[1])
        if by is None or not by:
            return None
        scale = by if node.op_type == "Mul" else 1 / by
        node = made_by.get(node.input[0])
    return (name, node, scale) if node is not None and node.op_type == "MatMul" else None


def _heads(made_by: dict[str, NodeProto], stored: dict[str, TensorProto], name: str) -> tuple[str, int] | None:
    """Return what is split into heads [texts, heads, tokens, size], and that size."""
    turned = made_by.get(name)
    if turned is None or turned.op_type != "Transpose" or _perm(turned) != [0, 2, 1, 3]:
        return None
    return _split(made_by, stored, turned.input[0])


def _turned_heads(made_by: dict[str, NodeProto], stored: dict[str, TensorProto], name: str) -> tuple[str, int] | None:
    """Return the same of what is split into heads [texts, heads, size, tokens]."""
    turned = made_by.get(name)
    if turned is None or turned.op_type != "Transpose":
        return None
    if _perm(turned) == [0, 2, 3, 1]:
        return _split(made_by, stored, turned.input[0])
    return _heads(made_by, stored, turned.input[0]) if _perm(turned) == [0, 1, 3, 2] else None


def _split(made_by: dict[str, NodeProto], stored: dict[str, TensorProto], name: str) -> tuple[str, int] | None:
    reshape = made_by.get(name)
    if reshape is None or reshape.op_type != "Reshape":
        return None
    joined = made_by.get(reshape.input[1])
    last = joined.input[-1] if joined is not None and joined.op_type == "Concat" else reshape.input[1]
    sizes = _array(made_by, stored, last)
    return None if sizes is None or sizes.size == 0 or sizes.flat[-1] < 1 else (reshape.input[0], int(sizes.flat[-1]))


def _width(made_by: dict[str, NodeProto], stored: dict[str, TensorProto], name: str) -> int | None:
    """Return how wide a projection is: its product's weight says so."""
    node = made_by.get(name)
    if node is not None and node.op_type == "Add":
        products = [made_by[part] for part in node.input if part in made_by]
        node = products[0] if len(products) == 1 else None
    if node is None or node.op_type != "MatMul" or node.input[1] not in stored:
        return None
    return int(stored[node.input[1]].dims[-1])


def _unexpanded(made_by: dict[str, NodeProto], name: str) -> str:
    """Return what a tensor repeats for every text; itself where it repeats nothing."""
    node = made_by.get(name)
    return str(node.input[0]) if node is not None and node.op_type == "Expand" else name


def _is_padding(full: NDArray[Any], padded: NDArray[Any]) -> bool:
    """Tell what adds nothing but to the scores of padding, and there so much that nothing is left of them."""
    if full.dtype != np.float32 or full.ndim != 4 or full.any() or padded.shape[0] != len(_MASK):
        return False
    gone = np.broadcast_to(_MASK[:, None, None, :] == 0, padded.shape)
    return bool((padded[gone] <= _LOW).all() and not padded[~gone].any())


def _is_bias(found: NDArray[Any], texts: int) -> bool:
    """Tell what the operator takes as a bias: [texts, heads or 1, tokens, tokens]."""
    tokens = _MASK.shape[1]
    return found.dtype == np.float32 and found.ndim == 4 and found.shape[0] == texts and found.shape[2:] == (tokens,) * 2


def _perm(node: NodeProto) -> list[int]:
    return next((list(a.ints) for a in node.attribute if a.name == "perm"), [])


def _number(made_by: dict[str, NodeProto], stored: dict[str, TensorProto], name: str) -> float | None:
    found = _array(made_by, stored, name)
    return float(found.flat[0]) if found is not None and found.size == 1 else None


def _array(made_by: dict[str, NodeProto], stored: dict[str, TensorProto], name: str) -> NDArray[Any] | None:
    if name in stored:
        return numpy_helper.to_array(stored[name])
    node = made_by.get(name)
    if node is None or node.op_type != "Constant":
        return None
    return next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), None)
