"""Products with stored weights: those that a graph has, and those that ONNX Runtime multiplies in integers."""

from collections.abc import Iterator
from pathlib import Path

import onnx

from compressor.artifact.layout import HEAD, TAIL
from exporters.graph.files import as_run, constants, load, makers, nodes

# Each kind and its input that holds the weights.
_FLOAT = {"Attention": 1, "FusedGemm": 1, "FusedMatMul": 1, "Gemm": 1, "MatMul": 1}
_INTEGER = {
    "DynamicQuantizeMatMul": 1, "MatMulInteger": 1, "MatMulIntegerToFloat": 1, "QAttention": 1, "QLinearMatMul": 3,
}  # fmt: skip
_UNCHANGED = {"Cast", "Constant", "DequantizeLinear", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}


def integer_products(path: Path) -> tuple[int, int]:
    """Count the products that run in integers, and all with weights that a text's values meet, in float or integers.

    Those that follow the pooling, or give a reader's logits, are left out: they stay as they are. An attention with its
    three projections counts as one. ArtifactError if the graph cannot be loaded.
    """
    stored = [node for node in _of_texts(load(path)) if node.op_type in _FLOAT | _INTEGER]
    run = [node for node in _of_texts(as_run(path)) if node.op_type in _INTEGER]
    return len(run), len(stored)


def after_pooling(model: onnx.ModelProto) -> list[str]:
    """Name the nodes that work on pooled vectors, or give the logits: little to gain, and much to lose."""
    names = [node.name for node in model.graph.node if _is_behind(node)]
    # The quantizer first splits a Gemm (a Dense with its bias) into a MatMul of this name and an Add.
    return [*names, *(f"{name}_MatMul" for name in names)]


def attentions_written_out(model: onnx.ModelProto) -> int:
    """Count the attentions that stand in two forms, one with the mask and one without: fused, or as products."""

    def attends(branch: onnx.GraphProto) -> bool:
        kinds = [node.op_type for node in branch.node]
        products = kinds.count("FusedMatMul") == 2 and kinds.count("Softmax") == 1
        return products or kinds == ["MultiHeadAttention"]

    branches = [[a.g for a in node.attribute] for node in nodes(model.graph) if node.op_type == "If"]
    return sum(all(map(attends, pair)) for pair in branches)


def _is_behind(node: onnx.NodeProto) -> bool:
    return any(part in node.name for part in (f"/{TAIL}.", HEAD))


def _of_texts(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the products with stored weights whose other side depends on what a graph is given."""
    fed, made_by, stored = {value.name for value in model.graph.input}, makers(model), constants(model)

    def is_stored(name: str) -> bool:
        maker = made_by.get(name)
        return name in stored or (
            maker is not None and maker.op_type in _UNCHANGED and all(map(is_stored, maker.input[:1]))
        )

    for node in nodes(model.graph):
        if not fed & set(node.input):
            continue
        fed.update(node.output)
        place = (_FLOAT | _INTEGER).get(node.op_type)
        if place is not None and place < len(node.input) and is_stored(node.input[place]) and not _is_behind(node):
            yield node
