"""Attention that looks at a window, in blocks of tokens where texts are long: it keeps no tokens squared."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from exporters.graph.rewrite import constant, copied, either, insert, replace

LONG = 4
"""A text is computed in blocks where it has more than so many of them; a block meets itself and one on each side."""
_LEAST = 32  # tokens of a block, at least
_LOWEST = np.finfo(np.float32).min


def block_of(window: int) -> int:
    """Return how many tokens a block has, so that a window reaches no further than the block beside it."""
    return max(_LEAST, window)


def in_blocks(model: onnx.ModelProto, window: int, bias: str, padding: str) -> int:
    """Compute attention with a window's ``bias`` in blocks where texts are long, in place; return how many were.

    Each block of queries meets its own keys and those of the blocks beside it (Beltagy et al. 2020, arXiv:2004.05150),
    so that scores are [tokens, 3 blocks] and not [tokens, tokens]. ``padding`` names the mask, int32 [texts, tokens].
    """
    fused = [node for node in _attentions(model) if len(node.input) > 5 and node.input[5] == bias]
    if not fused:
        return 0
    blocks = _Blocks(model, window, padding)
    states = str(fused[0].input[0])
    for node in fused:
        to = str(node.output[0])
        short = copied(node, node.input, f"{to}.short")
        replace(model, node, [either(blocks.long, to, list(blocks.attend(node)), [short])])
    behind = max(i for i, node in enumerate(model.graph.node) if {states, padding} & set(node.output))
    insert(model, behind + 1, blocks.shared(states))
    return len(fused)


class _Blocks:
    """The operators of attention in blocks: what all layers of a window share, and what each is."""

    def __init__(self, model: onnx.ModelProto, window: int, padding: str) -> None:
        self.model, self.size, self.padding, self.stem = model, block_of(window), padding, f"attention.blocks.{window}"
        self.long = f"{self.stem}.long"
        places = np.arange(self.size)[:, None] + self.size - np.arange(3 * self.size)
        bias = np.where(np.abs(places) <= window, np.float32(0), _LOWEST)[None, None]
        self.bias = self._store("bias", bias.astype(np.float32))

    def shared(self, states: str) -> list[NodeProto]:
        """Return what is computed once: the tokens of each block, those that it meets, and their mask."""
        size, nodes = self.size, list[NodeProto]()

        def add(kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
            nodes.append(helper.make_node(kind, inputs, [f"{self.stem}.{name}"], f"{self.stem}.{name}", **attributes))
            return f"{self.stem}.{name}"

        def number(name: str, *values: int) -> str:
            return self._store(name, np.array(values, np.int64))

        zero, one, block = number("zero", 0), number("one", 1), number("size", size)
        texts, tokens, width = (
            add("Gather", [add("Shape", [states], f"shape_{name}"), number(f"at_{name}", i)], name)
            for i, name in enumerate(("texts", "tokens", "width"))
        )
        longer = add("Greater", [tokens, number("most", LONG * size)], "longer")
        add("Reshape", [longer, self._store("scalar", np.zeros(0, np.int64))], "long")
        count = add("Div", [add("Add", [tokens, number("rest", size - 1)], "filled"), block], "count")
        scalar = self._store("scalar", np.zeros(0, np.int64))
        numbers = [self._store(name, np.array(n, np.int64)) for name, n in (("scalar_0", 0), ("scalar_1", 1))]
        each = add("Range", [numbers[0], add("Reshape", [count, scalar], "count_0"), numbers[1]], "each")
        starts = add("Unsqueeze", [add("Mul", [each, block], "starts"), one], "starts_1")
        last = add("Sub", [tokens, one], "last")
        own = add("Add", [starts, self._store("own_places", np.arange(size)[None])], "own_all")
        add("Min", [own, last], "own")
        met = add("Add", [starts, self._store("met_places", np.arange(-size, 2 * size)[None])], "met_all")
        inside = add("Max", [add("Min", [met, last], "met_before"), zero], "met")
        real = add("Cast", [add("Equal", [met, inside], "there")], "real", to=TensorProto.INT32)
        mask = add("Mul", [add("Gather", [self.padding, inside], "mask_met", axis=1), real], "mask_real")
        add("Reshape", [mask, number("mask_rows", -1, 3 * size)], "mask")
        add("Concat", [number("any", -1), block, width], "own_rows", axis=0)
        add("Concat", [number("any", -1), number("three", 3 * size), width], "met_rows", axis=0)
        add("Concat", [texts, number("any", -1), width], "by_text", axis=0)
        return nodes

    def attend(self, node: NodeProto) -> Iterator[NodeProto]:
        """Yield attention of one layer, in blocks."""
        to = str(node.output[0])
        names = list[str]()
        for part, name, places in zip(("query", "key", "value"), node.input, ("own", "met", "met"), strict=False):
            block, rows = f"{to}.{part}.blocks", f"{to}.{part}.rows"
            yield helper.make_node("Gather", [name, f"{self.stem}.{places}"], [block], block, axis=1)
            yield helper.make_node("Reshape", [block, f"{self.stem}.{places}_rows"], [rows], rows)
            names.append(rows)
        inputs = [*names, "", f"{self.stem}.mask", self.bias]
        yield copied(node, inputs, f"{to}.rows")
        yield helper.make_node("Reshape", [f"{to}.rows", f"{self.stem}.by_text"], [f"{to}.filled"], f"{to}.filled")
        ends = [
            self._store("zero", np.zeros(1, np.int64)),
            f"{self.stem}.tokens",
            self._store("one", np.ones(1, np.int64)),
        ]
        yield helper.make_node("Slice", [f"{to}.filled", *ends], [f"{to}.long"], f"{to}.long")

    def _store(self, name: str, values: NDArray[Any]) -> str:
        return constant(self.model, f"{self.stem}.{name}", values)


def _attentions(model: onnx.ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == "MultiHeadAttention"]
