"""What a product does in an encoder's layer, told by what stands before and behind it."""

from collections.abc import Iterator
from typing import Literal

import onnx
from onnx import NodeProto

from exporters.graph.files import constants, makers

Kept = Literal["none", "behind-gelu", "attention", "feed-forward"]
KEPT: tuple[Kept, ...] = ("behind-gelu", "attention", "feed-forward")
ACTIVATIONS = {"BiasGelu", "FastGelu", "Gelu", "Relu"}
_ATTENTIONS = {"Attention", "MultiHeadAttention"}


def kept_nodes(model: onnx.ModelProto, kept: Kept) -> list[str]:
    """Name the products of a fused fp32 graph that are one of ``kept``."""
    return [node.name for node in _chosen(model, kept)]


def _chosen(model: onnx.ModelProto, kept: Kept) -> Iterator[NodeProto]:
    if kept == "none":
        return
    made_by, weights = makers(model), constants(model).keys()
    for node in model.graph.node:
        if kept == "attention" and node.op_type in _ATTENTIONS:
            yield node
        if node.op_type != "MatMul" or not weights & set(node.input):
            continue
        before = made_by.get(node.input[0])
        if before is None:
            continue
        if before.op_type in (_ATTENTIONS if kept == "attention" else ACTIVATIONS):
            yield node
            if kept == "feed-forward":
                yield from _products_before(made_by, before)


def _products_before(made_by: dict[str, NodeProto], node: NodeProto) -> Iterator[NodeProto]:
    """Yield the product whose sum with a bias an activation takes."""
    for name in node.input:
        before = made_by.get(name)
        if before is not None and before.op_type == "Add":
            yield from _products_before(made_by, before)
        elif before is not None and before.op_type == "MatMul":
            yield before
