"""What a graph of others is: its precision, what runs as one operator, and whether a text's vector is its own alone."""

from collections import Counter
from math import prod

import onnx
from onnx import TensorProto

from compressor.artifact.layout import INTEGER_PRODUCTS
from compressor.core.strict_json import JsonObject
from exporters.foreign.adopt import Adopted
from exporters.foreign.find import Foreign, graphs_in
from exporters.graph.files import as_run, branches, load, nodes, operators, shape_of
from exporters.precision.products import integer_products
from exporters.verify.check import ATTENTION, GELU

_BY_BATCH = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul")
_NORMALIZATION = (
    "EmbedLayerNormalization", "LayerNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
)  # fmt: skip


def describe(foreign: Foreign, known: Adopted) -> JsonObject:
    """Return what there is to say of a graph that ``examine`` has found sound, as JSON has it."""
    model, run = load(foreign.graph), as_run(foreign.graph)
    stored, own = _stored(model), operators(run)
    return {
        "graph": foreign.name,
        "other_graphs": [name for name in graphs_in(foreign.folder) if name != foreign.name],
        "vectors": known.described(),
        "max_length": known.stated.max_length,
        "precision": _precision(stored, own, foreign),
        "ranges": _ranges(operators(model), own),
        "fused": _fused(own),
        "not_fused": _not_fused(own),
        "parameters": sum(prod(tensor.dims) for tensor in stored),
        "size_bytes": foreign.graph.stat().st_size,
        "inputs": {value.name: shape_of(value) for value in model.graph.input if value.name not in _names(model)},
        "outputs": {value.name: shape_of(value) for value in model.graph.output},
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "operators": dict(Counter(node.op_type for node in nodes(model.graph)).most_common()),
        "weights": {kind: f"{count:,}" for kind, count in _numbers(stored).most_common()},
    }


def _stored(model: onnx.ModelProto) -> list[TensorProto]:
    """Return all stored tensors, those of Constant operators and of branches included."""
    graphs = [model.graph, *branches(model.graph)]
    constants = [a.t for node in nodes(model.graph) for a in node.attribute if a.name == "value" and a.HasField("t")]
    return [*(tensor for graph in graphs for tensor in graph.initializer), *constants]


def _numbers(stored: list[TensorProto]) -> Counter[str]:
    """Count stored numbers by their type."""
    counts = Counter[str]()
    for tensor in stored:
        counts[TensorProto.DataType.Name(tensor.data_type).lower()] += prod(tensor.dims)
    return counts


def _precision(stored: list[TensorProto], run: dict[str, int], foreign: Foreign) -> str:
    """Say what is stored, and what is multiplied: weights in int8 may be multiplied in floats all the same."""
    counts = _numbers([tensor for tensor in stored if len(tensor.dims) > 1])
    kind = max(counts, key=lambda name: counts[name], default="float")
    small = {"int8": "int8", "uint8": "int8", "float16": "fp16", "float": "fp32"}.get(kind, kind)
    if "MatMulNBits" in run or "MatMulBnb4" in run:
        return "4 bits stored, multiplied in floats"
    if small != "int8" and run.keys().isdisjoint(INTEGER_PRODUCTS):
        return small
    integers, products = integer_products(foreign.graph)
    return f"{small} stored, {integers} of {max(products, integers)} products with weights in integers"


def _ranges(stated: dict[str, int], run: dict[str, int]) -> str:
    """Say where activations get their scales from."""
    if not (stated | run).keys().isdisjoint(_BY_BATCH):
        return "each batch's own: a text's vector depends on the texts beside it"
    if run.keys().isdisjoint(INTEGER_PRODUCTS):
        return "none: a text's vector is its own"
    return "fixed: a text's vector is its own"


def _fused(run: dict[str, int]) -> JsonObject:
    """Count what ONNX Runtime runs as one operator; a layer has one attention, one Gelu, two normalizations."""
    kinds = {"attention": ATTENTION, "gelu": GELU, "normalization": _NORMALIZATION}
    return {part: sum(run.get(kind, 0) for kind in own) for part, own in kinds.items()}


def _not_fused(run: dict[str, int]) -> list[str]:
    """Name what runs as several operators, and by which of them it is known."""
    parts = {"Softmax": "attention", "Erf": "gelu", "ReduceMean": "normalization"}
    return [f"{part} ({run[kind]} {kind})" for kind, part in parts.items() if run.get(kind)]


def _names(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}
