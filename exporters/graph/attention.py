"""Attention in plain operators, of families that ONNX Runtime's optimiser does not know, written as its fused one."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from compressor.artifact.layout import INPUTS
from exporters.graph.attention_reader import BY_TOKEN, Heads, Reader
from exporters.graph.blocks import LONG, block_of, in_blocks
from exporters.graph.files import makers
from exporters.graph.probe import values
from exporters.graph.rewrite import constant, drop_dead, replace

_DOMAIN = "com.microsoft"
_LOW = -10_000.0  # what is added to the scores of padding, at most
_LOWEST = np.finfo(np.float32).min
_TEXTS, _FEW = 2, 6
_LOOKED_AT = 256  # tokens that a graph's masks are looked at over, at least: a window shows in a longer text alone
_PADDING, _STEM = "attention.padding", "attention.bias"


def fuse_attention(model: onnx.ModelProto, size: int, positions: int | None, window: int = 0) -> int:
    """Write attention over plain heads as ``MultiHeadAttention``, in place; return how many were.

    ``size`` is a head's, ``positions`` the tokens that the model reads, None where they are not bounded, ``window``
    those that a layer looks at, where it looks at fewer. Rotary positions (Su et al. 2021, arXiv:2104.09864) become
    ``RotaryEmbedding``, with tables for all ``positions``. What is added to the scores is looked at by running it:
    padding becomes the operator's mask; what all texts have in common, as relative positions (Shaw et al. 2018,
    arXiv:1803.02155) or a window, its bias. An attention of another kind stays as it is.
    """
    layers = [layer for layer in Reader(model).layers() if layer.width % size == 0]
    seen = max(_LOOKED_AT, 2 * window + 2)
    if positions is not None:
        seen = min(seen, positions - positions // 8)  # some families count their positions from a few on
    kinds = _Added(model, {name for layer in layers for name in layer.added}, seen)
    turns = _Turns(model, {side.turns for layer in layers for side in layer.sides if side.turns}, positions or 0)
    changed = 0
    for layer in layers:
        inputs = kinds.inputs(layer.added)
        if inputs is None or not all(turns.known(side) for side in layer.sides):
            continue
        to = str(layer.end.output[0])
        nodes, names = list[NodeProto](), list[str]()
        for part, side in zip(("query", "key", "value"), layer.sides, strict=True):
            names.append(side.name)
            if side.form == "heads":
                by_token = f"{to}.{part}.by_token"
                nodes.append(helper.make_node("Transpose", [names[-1]], [by_token], by_token, perm=BY_TOKEN))
                names[-1] = by_token
            if side.form != "joined":
                nodes.append(helper.make_node("Reshape", [names[-1], turns.shape()], [f"{to}.{part}"], f"{to}.{part}"))
                names[-1] = f"{to}.{part}"
            if side.turns:
                nodes.append(turns.node(names[-1], side.turns, f"{to}.{part}.turned", layer.width // size))
                names[-1] = f"{to}.{part}.turned"
        attributes: dict[str, Any] = {"num_heads": layer.width // size, "scale": layer.scale}
        fused = helper.make_node(
            "MultiHeadAttention", [*names, "", *inputs], [to], f"{to}.attention", domain=_DOMAIN, **attributes
        )
        replace(model, layer.end, [*kinds.pop(), *nodes, fused])
        changed += 1
    for looks in kinds.windows_used:
        if positions is None or positions > LONG * block_of(looks):
            in_blocks(model, looks, f"attention.window.{looks}", _PADDING)
    drop_dead(model)
    return changed


class _Turns:
    """The tables of rotary positions: cosines and sines, by the tensors that a graph computes them as."""

    def __init__(self, model: onnx.ModelProto, pairs: set[tuple[str, str]], positions: int) -> None:
        self.model = model
        names = {name for pair in pairs for name in pair}
        few = values(model, names, np.ones((1, _FEW), np.int64)) if names and positions else {}
        many = values(model, names, np.ones((1, positions), np.int64)) if names and positions else {}
        self.tables = {name: many[name] for name in few if _is_table(few[name], many[name])}

    def known(self, side: Heads) -> bool:
        return side.turns is None or all(name in self.tables for name in side.turns)

    def shape(self) -> str:
        return constant(self.model, "attention.joined", np.array([0, 0, -1], np.int64))

    def node(self, name: str, turns: tuple[str, str], to: str, heads: int) -> NodeProto:
        """Return the operator that turns ``name`` [texts, tokens, width]."""
        tables = []
        for kind, own in zip(("cosines", "sines"), turns, strict=True):
            table = self.tables[own]
            tables.append(
                constant(self.model, f"{own}.{kind}", table.reshape(table.shape[-2:])[:, : table.shape[-1] // 2])
            )
        first = constant(self.model, "attention.first_position", np.zeros(1, np.int64))
        return helper.make_node(
            "RotaryEmbedding", [name, first, *tables], [to], to, domain=_DOMAIN, num_heads=heads, interleaved=0
        )


class _Added:
    """What the terms are that are added to scores, and the operators that bring them into the fused one's inputs."""

    def __init__(self, model: onnx.ModelProto, terms: set[str], tokens: int) -> None:
        self.model, self.nodes, self.made = model, list[NodeProto](), set[str]()
        self.windows_used = set[int]()
        mask = np.ones((_TEXTS, tokens), np.int64)
        mask[1:, tokens - tokens // 3 :] = 0
        common = {name: inner for name in terms for inner in [_unexpanded(makers(model), name)]}
        names = {*terms, *common.values()}
        full = values(model, names, np.ones_like(mask)) if names else {}
        padded = values(model, names, mask) if names else {}
        self.padding = {name for name in terms if _is_padding(full[name], padded[name], mask)}
        same = {name for name in names if full[name].shape == padded[name].shape and (full[name] == padded[name]).all()}
        self.common = {n: inner for n, inner in common.items() if inner in same and _is_bias(full[inner], 1, tokens)}
        windows = {name: _window(full[name], padded[name], mask) for name in terms}
        self.windows = {name: window for name, window in windows.items() if window is not None}

    def inputs(self, added: Sequence[str]) -> list[str] | None:
        """Return the operator's inputs for mask and bias; None for terms that it has no place for."""
        padding = [name for name in added if name in self.padding]
        rest = [name for name in added if name not in self.padding]
        if not rest:
            return [self._padding() if padding else ""]
        if all(name in self.common for name in rest):
            return [self._padding() if padding else "", self._sum([self.common[name] for name in rest])]
        if len(rest) == 1 and rest[0] in self.windows:  # a window of tokens and padding in one
            return [self._padding(), self._window(self.windows[rest[0]])]
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

    def _window(self, window: int) -> str:
        """Return a bias [1, 1, tokens, tokens] that leaves each token those that are at most ``window`` away.

        Longer texts are computed in blocks, without it.
        """
        to = f"attention.window.{window}"
        if to in self.made:
            return to
        self.made.add(to)
        self.windows_used.add(window)
        store = partial(constant, self.model)
        zero, one = store("attention.zero", np.array(0, np.int64)), store("attention.one", np.array(1, np.int64))
        away, low = store(f"{to}.most", np.array(window, np.int64)), store("attention.lowest", np.array(_LOWEST))
        kept, first = (
            store("attention.float_zero", np.array(0, np.float32)),
            store("attention.axis_0", np.array([0], np.int64)),
        )
        second, both = store("attention.axis_1", np.array([1], np.int64)), store("attention.axes_0_1", np.array([0, 1]))

        def node(kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
            self.nodes.append(helper.make_node(kind, inputs, [f"{to}.{name}"], f"{to}.{name}", **attributes))
            return f"{to}.{name}"

        most = store(f"{to}.longest", np.array(LONG * block_of(window), np.int64))
        tokens = node("Gather", [node("Shape", [INPUTS[1]], "shape"), one], "tokens")
        places = node("Range", [zero, node("Min", [tokens, most], "short"), one], "places")
        across, down = (node("Unsqueeze", [places, axis], name) for axis, name in ((first, "across"), (second, "down")))
        distance = node("Abs", [node("Sub", [across, down], "difference")], "distance")
        near = node("LessOrEqual", [distance, away], "near")
        node("Unsqueeze", [node("Where", [near, kept, low], "square"), both], "bias")
        self.nodes[-1].output[0] = to
        return to

    def _sum(self, names: Iterable[str]) -> str:
        total, *more = names
        for name in more:
            both = f"{_STEM}.{len(self.made)}"
            self.made.add(both)
            self.nodes.append(helper.make_node("Add", [total, name], [both], name=both))
            total = both
        return total


def _unexpanded(made_by: dict[str, NodeProto], name: str) -> str:
    """Return what a tensor repeats for every text; itself where it repeats nothing."""
    node = made_by.get(name)
    return str(node.input[0]) if node is not None and node.op_type == "Expand" else name


def _is_padding(full: NDArray[Any], padded: NDArray[Any], mask: NDArray[np.int64]) -> bool:
    """Tell what adds nothing but to the scores of padding, and there so much that nothing is left of them."""
    if full.dtype != np.float32 or full.ndim != 4 or full.any() or padded.shape[0] != len(mask):
        return False
    gone = np.broadcast_to(mask[:, None, None, :] == 0, padded.shape)
    return bool((padded[gone] <= _LOW).all() and not padded[~gone].any())


def _window(full: NDArray[Any], padded: NDArray[Any], mask: NDArray[np.int64]) -> int | None:
    """Return how far a token looks, where what is added keeps it from all further ones, and from padding."""
    tokens = mask.shape[1]
    if full.dtype != np.float32 or full.shape not in ((1, 1, tokens, tokens), (_TEXTS, 1, tokens, tokens)):
        return None
    places = np.arange(tokens)
    distance = np.abs(places[:, None] - places)
    window = int(distance[full[0, 0] == 0].max(initial=0))
    far = np.broadcast_to(distance > window, full.shape)
    gone = far | (mask[:, None, None, :] == 0)
    whole = not full[~far].any() and not padded[~gone].any()
    return window if whole and (full[far] <= _LOW).all() and (padded[gone] <= _LOW).all() else None


def _is_bias(found: NDArray[Any], texts: int, tokens: int) -> bool:
    """Tell what the operator takes as a bias: [texts, heads or 1, tokens, tokens]."""
    square = found.shape[2:] == (tokens, tokens)
    return found.dtype == np.float32 and found.ndim == 4 and found.shape[0] == texts and square


def _is_table(few: NDArray[Any], many: NDArray[Any]) -> bool:
    """Tell what a position is turned by, whatever the text and its length, the same in both halves of a head."""
    if few.dtype != np.float32 or few.shape[:-2] not in ((1, 1), (1,), ()) or few.shape[-1] % 2:
        return False
    half = few.shape[-1] // 2
    return bool((few == many[..., : few.shape[-2], :]).all() and (many[..., :half] == many[..., half:]).all())
