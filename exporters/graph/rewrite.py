"""Other ways to write an encoder's layers, each computing the same: which is fastest, a CPU has to say."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from compressor.artifact.layout import EMBEDDING, HEAD, INPUTS
from exporters.graph.files import constants, makers, reads

_DOMAIN = "com.microsoft"
# What stands between the embeddings and the last state must treat every token alike, whatever their order.
_ROW_WISE = {
    "Add", "Attention", "BiasGelu", "Cast", "DynamicQuantizeLinear", "FastGelu", "Gelu", "LayerNormalization",
    "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "Mul", "QAttention", "QuantizeLinear", "Relu",
    "SkipLayerNormalization",
}  # fmt: skip
_FULL = "attention.full"  # whether a batch has no padding
_MASKED = -10_000.0  # what the fused operator adds to the scores of padding, too


def gelu_after_bias(model: onnx.ModelProto) -> int:
    """Leave the bias before a Gelu to the integer product in front of it, in place; return how many were.

    The operator that adds a bias and takes the Gelu goes over its input twice; the product adds one for nothing.
    """
    made_by, counts = makers(model), reads(model)
    gelus = [node for node in model.graph.node if node.op_type == "BiasGelu"]
    products = [(node, made_by.get(node.input[0])) for node in gelus]
    changed = 0
    for node, product in products:
        if product is None or product.op_type != "MatMulIntegerToFloat" or len(product.input) > 6:
            continue
        if counts[node.input[0]] > 1:  # others want the product without the bias
            continue
        product.input.append(node.input[1])
        replace(model, node, [_fused("Gelu", [node.input[0]], [node.output[0]])])
        changed += 1
    return changed


def relu_by_range(model: onnx.ModelProto) -> int:
    """Leave a ReLU to the int8 range behind it, which starts at zero and cuts what is below; return how many were."""
    made_by, stored, counts = makers(model), constants(model), reads(model)
    changed = 0
    for node in list(model.graph.node):
        relu = made_by.get(node.input[0]) if node.op_type == "QuantizeLinear" else None
        if relu is None or relu.op_type != "Relu" or counts[relu.output[0]] > 1:
            continue
        zero = stored.get(node.input[2])
        if zero is not None and not numpy_helper.to_array(zero).any():
            node.input[0] = relu.input[0]
            model.graph.node.remove(relu)
            changed += 1
    return changed


def tanh_gelu(model: onnx.ModelProto) -> int:
    """Take Gelu by its tanh form, in place: near, not equal; return how many were."""
    changed = 0
    for node in model.graph.node:
        if node.domain == _DOMAIN and node.op_type in ("BiasGelu", "Gelu"):
            node.op_type = "FastGelu"
            changed += 1
    return changed


def separate_products(model: onnx.ModelProto) -> int:
    """Take query, key and value out of the fused attention as products of their own, in place; return how many were."""
    changed = 0
    for node in _attentions(model):
        products, names = _projections(model, node)
        attributes = [a for a in node.attribute if a.name in ("num_heads", "scale", "mask_filter_value")]
        attention = _fused("MultiHeadAttention", [*names, "", _mask(node)], [node.output[0]])
        attention.attribute.extend(attributes)
        replace(model, node, [*products, attention])
        changed += 1
    return changed


def unmasked_where_whole(model: onnx.ModelProto) -> int:
    """Have fused attention pass over its mask for a batch without padding, in place; return how many were.

    ONNX Runtime computes it in blocks then, in memory that grows with the tokens and not with their square (Dao et al.
    2022, arXiv:2205.14135). Queries, keys and values are made products of their own first.
    """
    separate_products(model)
    changed = 0
    for node in [node for node in model.graph.node if node.op_type == "MultiHeadAttention"]:
        if len(node.input) < 5 or not node.input[4] or any(node.input[5:]):
            continue
        changed += 1
        to = str(node.output[0])
        plain, masked = copied(node, node.input[:3], f"{to}.then"), copied(node, node.input, f"{to}.else")
        replace(model, node, [either(_FULL, to, [plain], [masked])])
    if changed:
        insert(model, 0, _whole(model))
    return changed


def attention_by_products(model: onnx.ModelProto) -> int:
    """Write attention as two products and a softmax, tokens before texts, in place; return how many were.

    With tokens in front, heads are read where they lie: three of the four transpositions fall away. A batch without
    padding passes over the mask. Nothing is changed where a layer mixes tokens in another way.
    """
    attentions, last = _attentions(model), _last_state(model)
    if not attentions or last is None or not _is_row_wise(model, entry := _first_float(model, attentions[0]), last):
        return 0
    _put_tokens_first(model, entry, last)
    for node in _attentions(model):
        products, names = _projections(model, node)
        replace(model, node, [*products, *_attend(model, node, names)])
    _state_mask(model)
    return len(attentions)


def _attentions(model: onnx.ModelProto) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type in ("Attention", "QAttention")]


def _projections(model: onnx.ModelProto, node: NodeProto) -> tuple[list[NodeProto], list[str]]:
    """Return the three products that a fused attention holds, bias included, and the names of what they give."""
    products: list[NodeProto] = []
    names = []
    weights, bias = _values(model, node.input[1]), _values(model, node.input[2])
    width = weights.shape[1] // 3
    for index, part in enumerate(("query", "key", "value")):
        name = f"{node.output[0]}.{part}"
        own = slice(index * width, (index + 1) * width)
        weight = constant(model, f"{name}.weight", weights[:, own])
        added = constant(model, f"{name}.bias", bias[own])
        if node.op_type == "QAttention":
            scale, zero = (_columns(model, node.input[i], own, f"{name}.{i}") for i in (4, 7))
            inputs = [node.input[0], weight, node.input[3], scale, node.input[6], zero, added]
            products.append(_fused("MatMulIntegerToFloat", inputs, [name], name=name))
        else:
            products.append(helper.make_node("MatMul", [node.input[0], weight], [f"{name}.product"], name=name))
            products.append(helper.make_node("Add", [f"{name}.product", added], [name], name=f"{name}.sum"))
        names.append(name)
    return products, names


def _attend(model: onnx.ModelProto, node: NodeProto, names: Sequence[str]) -> Iterator[NodeProto]:
    """Yield attention over query, key and value [tokens, texts, width]."""
    to, heads = node.output[0], _attribute(node, "num_heads")
    width = _values(model, f"{names[0]}.bias").size
    split = constant(model, f"attention.heads_{heads}_{width}", np.array([0, 0, heads, width // heads], np.int64))
    joined = constant(model, f"attention.width_{width}", np.array([0, 0, width], np.int64))
    for name in names:
        yield helper.make_node("Reshape", [name, split], [f"{name}.heads"], name=f"{name}.heads")
    scale = _attribute(node, "scale") or (width // heads) ** -0.5
    full, padded = (_branch(to, names, scale, masked) for masked in (False, True))
    yield helper.make_node("If", [_FULL], [f"{to}.by_text"], f"{to}.if", then_branch=full, else_branch=padded)
    yield helper.make_node("Transpose", [f"{to}.by_text"], [f"{to}.heads"], perm=[2, 0, 1, 3], name=f"{to}.transpose")
    yield helper.make_node("Reshape", [f"{to}.heads", joined], [to], name=f"{to}.join")


def _branch(to: str, names: Sequence[str], scale: float, masked: bool) -> onnx.GraphProto:
    query, key, value = (f"{name}.heads" for name in names)
    name = f"{to}.{'padded' if masked else 'full'}"
    whole = {"transBatchA": 1, "transBatchB": 1, "transB": 1, "alpha": scale}
    nodes = [_fused("FusedMatMul", [query, key], [f"{name}.scores"], **whole)]
    scores = f"{name}.scores"
    if masked:
        nodes.append(helper.make_node("Add", [scores, "attention.bias"], [f"{name}.masked"]))
        scores = f"{name}.masked"
    nodes.append(helper.make_node("Softmax", [scores], [f"{name}.shares"], axis=-1))
    nodes.append(_fused("FusedMatMul", [f"{name}.shares", value], [f"{name}.values"], transBatchB=1))
    output = helper.make_tensor_value_info(f"{name}.values", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [output])


def _whole(model: onnx.ModelProto) -> list[NodeProto]:
    """Return what tells, once for all layers, that a batch has no padding."""
    one = constant(model, "attention.one", np.array(1, np.int64))
    return [
        helper.make_node("ReduceMin", [INPUTS[1]], ["attention.least"], keepdims=0, name="attention.least"),
        helper.make_node("Equal", ["attention.least", one], [_FULL], name=_FULL),
    ]


def _state_mask(model: onnx.ModelProto) -> None:
    """Put what all layers read of the mask in front: whether it is needed, and what it adds to the scores."""
    axes = constant(model, "attention.axes", np.array([1, 2], np.int64))
    float_one = constant(model, "attention.float_one", np.array(1, np.float32))
    low = constant(model, "attention.low", np.array(-_MASKED, np.float32))
    nodes = [
        *_whole(model),
        helper.make_node("Unsqueeze", [INPUTS[1], axes], ["attention.mask"], name="attention.mask"),
        helper.make_node("Cast", ["attention.mask"], ["attention.kept"], to=TensorProto.FLOAT, name="attention.kept"),
        helper.make_node("Sub", ["attention.kept", float_one], ["attention.gone"], name="attention.gone"),
        helper.make_node("Mul", ["attention.gone", low], ["attention.bias"], name="attention.bias"),
    ]
    insert(model, 0, nodes)


def _last_state(model: onnx.ModelProto) -> str | None:
    """Name what the last layer gives: an output of an encoder, what a reader makes logits of."""
    if any(output.name == EMBEDDING[0] for output in model.graph.output):
        return EMBEDDING[0]
    return next((node.input[0] for node in model.graph.node if HEAD in node.name and node.op_type == "MatMul"), None)


def _put_tokens_first(model: onnx.ModelProto, entry: str, last: str) -> None:
    """Turn [texts, tokens, units] to [tokens, texts, units] behind the embeddings, and back behind ``last``."""
    graph = model.graph
    turned, made_last = f"{entry}.turned", f"{last}.turned"
    position = next(i for i, node in enumerate(graph.node) if entry in node.output)
    for node in graph.node:
        node.input[:] = [turned if name == entry else name for name in node.input]
    insert(model, position + 1, [_turn(entry, turned)])
    end = next(i for i, node in enumerate(graph.node) if last in node.output)
    graph.node[end].output[:] = [made_last if name == last else name for name in graph.node[end].output]
    insert(model, end + 1, [_turn(made_last, last)])


def _turn(source: str, to: str) -> NodeProto:
    return helper.make_node("Transpose", [source], [to], perm=[1, 0, 2], name=to)


def _is_row_wise(model: onnx.ModelProto, entry: str, last: str) -> bool:
    """Whether all that leads from ``entry`` to ``last`` treats tokens alike, and nothing else reads it."""
    made_by = makers(model)
    inner, waiting = set(), [last]
    while waiting:
        name = waiting.pop()
        if name == entry or name not in made_by or name in inner:
            continue
        inner.add(name)
        if made_by[name].op_type in ("Attention", "QAttention"):  # what it reads beside its values is the mask
            waiting.append(made_by[name].input[0])
        else:
            waiting += made_by[name].input
    own = {made_by[name].output[0]: made_by[name] for name in inner}.values()
    counts, own_counts = reads(model), Counter(name for node in own for name in node.input)
    inside = {entry, *(name for node in own for name in node.output)} - {last, ""}
    stored = constants(model)
    return (
        last in inner
        and all(node.op_type in _ROW_WISE and _is_flat(node, stored) for node in own)
        and all(counts[name] == own_counts[name] for name in inside)
    )


def _is_flat(node: NodeProto, stored: Mapping[str, TensorProto]) -> bool:
    """Whether what is added or multiplied is the same for every token."""
    added = [stored[name] for name in node.input if name in stored] if node.op_type in ("Add", "Mul") else []
    return all(size == 1 for tensor in added for size in tensor.dims[:-1])


def _first_float(model: onnx.ModelProto, node: NodeProto) -> str:
    """Name the float tensor that an attention reads: itself, quantized, or its units balanced before that."""
    made_by = makers(model)
    name = node.input[0]
    if made_by[name].op_type.endswith("QuantizeLinear"):
        name = made_by[name].input[0]
    if made_by[name].op_type == "Mul" and made_by[name].input[1] in constants(model):
        name = made_by[name].input[0]
    return str(name)


def _mask(node: NodeProto) -> str:
    return str(node.input[5 if node.op_type == "QAttention" else 3])


def _attribute(node: NodeProto, name: str) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), None)


def _values(model: onnx.ModelProto, name: str) -> NDArray[Any]:
    return numpy_helper.to_array(constants(model)[name])


def _columns(model: onnx.ModelProto, name: str, own: slice, to: str) -> str:
    """Return a scale or zero point for some columns: itself where there is one for all."""
    values = _values(model, name)
    return name if values.ndim == 0 else constant(model, to, values[own])


def constant(model: onnx.ModelProto, name: str, values: NDArray[Any]) -> str:
    """Store values under a name, in place, unless they are there; return the name."""
    if name not in constants(model):
        model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
    return name


def _fused(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs, outputs, domain=_DOMAIN, **attributes)


def copied(node: NodeProto, inputs: Sequence[str], to: str) -> NodeProto:
    """Return the same operator of other inputs, which gives ``to``."""
    made = helper.make_node(node.op_type, list(inputs), [to], to, domain=node.domain)
    made.attribute.extend(node.attribute)
    return made


def either(condition: str, to: str, then: Sequence[NodeProto], other: Sequence[NodeProto]) -> NodeProto:
    """Return an If that gives, as ``to``, what the last operator of one or the other gives, float32."""
    branches = {}
    for name, nodes in (("then_branch", then), ("else_branch", other)):
        output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
        branches[name] = helper.make_graph(nodes, f"{to}.{name}", [], [output])
    return helper.make_node("If", [condition], [to], f"{to}.if", **branches)


def replace(model: onnx.ModelProto, node: NodeProto, replacement: Sequence[NodeProto]) -> None:
    """Put other operators where one stands, in place."""
    position = next(i for i, candidate in enumerate(model.graph.node) if candidate is node or candidate == node)
    del model.graph.node[position]
    insert(model, position, replacement)


def insert(model: onnx.ModelProto, position: int, inserted: Sequence[NodeProto]) -> None:
    """Put operators before the one at ``position``, in place."""
    for offset, node in enumerate(inserted):
        model.graph.node.insert(position + offset, node)


def drop_dead(model: onnx.ModelProto) -> None:
    """Take out operators that nothing reads any more, and then constants, in place."""
    while True:
        counts = reads(model)
        kept = [node for node in model.graph.node if any(counts[name] for name in node.output)]
        if len(kept) == len(model.graph.node):
            break
        del model.graph.node[:]
        model.graph.node.extend(kept)
    drop_unread(model)


def drop_unread(model: onnx.ModelProto) -> None:
    """Take out constants that no operator reads any more, nor one in a branch, in place."""
    counts = reads(model)
    tensors = [tensor for tensor in model.graph.initializer if counts[tensor.name]]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensors)
