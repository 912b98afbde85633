"""What a graph may hold and must give, whoever wrote it; only the process that ``inspect_file`` runs in asks this."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from compressor.artifact.layout import ANSWERING, EMBEDDING, INPUTS

OPSETS = {"": (17, 20), "com.microsoft": (1, 1)}
_PLAIN = """
    Abs Add And ArgMax ArgMin Cast CastLike Ceil Clip Concat Constant ConstantOfShape Cos CumSum
    DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor Gather
    GatherElements GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid HardSwish Identity If IsInf IsNaN
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max Mean Min Mish Mod Mul
    Neg Not OneHot Or PRelu Pad Pow QLinearMatMul QuantizeLinear Range Reciprocal ReduceL1 ReduceL2
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round
    ScatterElements ScatterND Selu Shape Sigmoid Sign SimplifiedLayerNormalization Sin Size Slice Softmax
    Softplus Softsign Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where
    Xor
"""
_FUSED = """
    Attention BiasGelu DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedGemm FusedMatMul
    GatedRelativePositionBias Gelu MatMulIntegerToFloat MatMulNBits MultiHeadAttention QAttention
    QEmbedLayerNormalization QuickGelu RelativePositionBias RotaryEmbedding SkipLayerNormalization
    SkipSimplifiedLayerNormalization
"""
OPERATORS = {"": frozenset(_PLAIN.split()), "com.microsoft": frozenset(_FUSED.split())}
EXTENSIONS = "ai.onnx.contrib"  # onnxruntime-extensions' domain
FOREIGN = "foreign"  # the form of a graph that others exported: what it takes and gives is asked in ``foreign.py``
_FOREIGN_OPSETS = {"": (11, 22), "com.microsoft": (1, 1)}
_FOREIGN_PLAIN = "BatchNormalization Conv Dropout EyeLike LpNormalization NonZero ReverseSequence Scatter"
_FOREIGN_FUSED = """
    BiasAdd BiasSoftmax DequantizeLinear GatherBlockQuantized GroupQueryAttention MatMulBnb4 PackedAttention
    PackedMultiHeadAttention QGemm QLinearAdd QLinearConcat QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear
    RemovePadding RestorePadding
"""
_FOREIGN = {"": frozenset(_FOREIGN_PLAIN.split()), "com.microsoft": frozenset(_FOREIGN_FUSED.split())}
_OF_TEXT = frozenset({"BertTokenizer", "StringConcat", "StringEqual", "StringRegexReplace"})
MOST_DEPTH = 2  # an If of CLS pooling holds plain operators, no further If
MOST_NODES = 100_000

# What a graph gives, by what it takes: an artifact's token ids, what OpenSearch pools by itself, a text.
FORMS: dict[str, tuple[tuple[str, ...], ...]] = {
    "ids": (EMBEDDING, ANSWERING),
    "pooled": (EMBEDDING[:1],),
    "text": (EMBEDDING[1:],),
}
_RANKS = dict(zip((*EMBEDDING, *ANSWERING), (3, 2, 2, 2), strict=True))
Stated = tuple[str, str, list[int | str]]


class Refusal(Exception):
    """What is wrong, in one line."""


def check_model(model: Any, form: str, onnx: Any) -> tuple[Counter[str], list[Stated]]:
    """Return a parsed graph's operators and stated outputs; Refusal for what this project never writes."""
    if len(model.functions) or len(model.training_info):
        raise Refusal("defines functions of its own, or training; only plain operators are run")
    _check_opsets(model, form)
    _check_tensors(model.graph.initializer, onnx)
    inputs, outputs = ([_stated(value, onnx) for value in values] for values in (model.graph.input, model.graph.output))
    check_contract(inputs, outputs, form)
    return count_operators(_nodes(model.graph, form, onnx)), outputs


def precision_of(model: Any, onnx: Any) -> str:
    """Return what a graph's weights are stored in: int8, fp16 or fp32."""
    kinds, stored = onnx.TensorProto, model.graph.initializer
    if any(tensor.data_type in (kinds.INT8, kinds.UINT8) and len(tensor.dims) > 1 for tensor in stored):
        return "int8"
    return "fp16" if any(tensor.data_type == kinds.FLOAT16 for tensor in stored) else "fp32"


def check_contract(inputs: list[Stated], outputs: list[Stated], form: str) -> None:
    """Refuse other names, types or shapes than those of ``form``."""
    if form == FOREIGN:  # told by an open session
        return
    _check_inputs(inputs, form)
    _check_outputs(outputs, form)


def check_operator(domain: str, name: str, form: str) -> None:
    """Refuse an operator that is never exported."""
    domain = "" if domain == "ai.onnx" else domain
    known = _OF_TEXT if (form, domain) == ("text", EXTENSIONS) else OPERATORS.get(domain, frozenset())
    if name not in known and not (form == FOREIGN and name in _FOREIGN.get(domain, ())):
        raise Refusal(f"operator {shown(domain or 'ai.onnx')}.{shown(name)}: not one that is exported")


def count_operators(names: Iterable[str]) -> Counter[str]:
    """Count operators by name; Refusal for more than anybody needs."""
    operators = Counter[str]()
    for count, name in enumerate(names, start=1):
        if count > MOST_NODES:
            raise Refusal(f"more than {MOST_NODES} operators")
        operators[name] += 1
    return operators


def run(session: Any, outputs: list[Stated], form: str, memory_bytes: int) -> int | None:
    """Run two texts of four tokens, or one text; return the vectors' length, None for logits.

    Refusal for outputs that are not as the graph states them: a session's own shapes are what it inferred.
    """
    import numpy as np

    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int64)
    feeds = {"input_ids": np.zeros_like(mask), "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
    feeds |= {"text": np.array(["a text of some words"], dtype=object)}
    with refusing(memory_bytes):
        names = [name for name, *_ in outputs]
        made = session.run(names, {value.name: feeds[value.name] for value in session.get_inputs()})
    rows, length = (1 if form == "text" else 2), 4
    for (name, _, shape), array in zip(outputs, made, strict=True):
        width = shape[-1] if isinstance(shape[-1], int) else length
        wanted = (rows, width) if len(shape) == 2 else (rows, length, width)
        if array.dtype != np.float32 or array.shape != wanted:
            raise Refusal(f"output {name} comes as {array.dtype} {list(array.shape)} where {list(wanted)} was stated")
        if not np.isfinite(array).all():
            raise Refusal(f"output {name} is not finite")
    dim = outputs[-1][2][-1]
    return dim if isinstance(dim, int) else None


class refusing:  # noqa: N801 - a statement's word
    """Turn what ONNX Runtime raises, its own kinds, one a status code, into a Refusal."""

    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        if isinstance(error, Exception):
            reason = first_line(error)
            if isinstance(error, MemoryError) or "alloc" in reason.lower():
                raise Refusal(f"asks for more than {self.memory_bytes >> 20} MiB of memory") from error
            raise Refusal(f"cannot be run: {reason}") from error


def _check_opsets(model: Any, form: str) -> None:
    known = OPSETS | ({EXTENSIONS: (1, 1)} if form == "text" else {})
    if form == FOREIGN:
        known = _FOREIGN_OPSETS
    seen: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if form == FOREIGN and domain not in known:  # ONNX Runtime's optimiser names all of its own, used or not
            continue
        low, high = known.get(domain, (0, -1))
        if domain in seen or not low <= entry.version <= high:
            listed = ", ".join(f"{name or 'ai.onnx'} {a} to {b}" for name, (a, b) in known.items())
            raise Refusal(f"operators of {shown(domain or 'ai.onnx')} {entry.version}; known: {listed}")
        seen[domain] = entry.version
    if "" not in seen:
        raise Refusal("names no version of ONNX's operators")


def _nodes(graph: Any, form: str, onnx: Any, depth: int = 0) -> Iterator[str]:
    """Yield the names of all operators, checked, those of branches too."""
    for node in graph.node:
        check_operator(node.domain, node.op_type, form)
        yield node.op_type
        for attribute in node.attribute:
            _check_tensors([attribute.t, *attribute.tensors], onnx)
            if attribute.HasField("sparse_tensor") or len(attribute.sparse_tensors):
                raise Refusal("sparse tensors, which are never exported")
            branches = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
            check_branches(node.op_type, len(branches), depth)
            for branch in branches:
                _check_tensors(branch.initializer, onnx)
                yield from _nodes(branch, form, onnx, depth + 1)
    if len(graph.sparse_initializer):
        raise Refusal("sparse tensors, which are never exported")


def check_branches(operator: str, count: int, depth: int) -> None:
    """Refuse an operator with graphs of its own, but for an If, and none in that."""
    if count and (operator != "If" or depth + 1 >= MOST_DEPTH):
        raise Refusal(f"operator {shown(operator)} holds a graph of its own")


def _check_tensors(tensors: Iterable[Any], onnx: Any) -> None:
    for tensor in tensors:
        if tensor.data_location != onnx.TensorProto.DEFAULT or len(tensor.external_data):
            raise Refusal(f"tensor {shown(tensor.name)} is kept in another file; weights must be in the graph")
        if any(dim < 0 for dim in tensor.dims):
            raise Refusal(f"tensor {shown(tensor.name)} has a negative dimension")


def _stated(value: Any, onnx: Any) -> Stated:
    """Return name, type and shape of an input or output, dimensions as their number or their name."""
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in kind.shape.dim]
    names = onnx.TensorProto.DataType
    return value.name, names.Name(kind.elem_type) if kind.elem_type in names.values() else "", dims


def _check_inputs(inputs: list[Stated], form: str) -> None:
    if form == "text":
        if inputs != [("text", "STRING", [1])]:
            raise Refusal(f"inputs {listed(inputs)}; must be text, one string")
        return
    if tuple(name for name, *_ in inputs) not in (INPUTS, INPUTS[:2]):
        raise Refusal(f"inputs {listed(inputs)}; must be {', '.join(INPUTS)}, or the first two")
    for name, kind, shape in inputs:
        if kind != "INT64" or len(shape) != 2 or any(isinstance(dim, int) for dim in shape):
            raise Refusal(f"input {name}: {kind} {shape}; must be int64 [batch_size, sequence_length]"[:240])


def _check_outputs(outputs: list[Stated], form: str) -> None:
    if tuple(name for name, *_ in outputs) not in FORMS[form]:
        allowed = " or ".join(", ".join(names) for names in FORMS[form])
        raise Refusal(f"outputs {listed(outputs)}; must be {allowed}")
    for name, kind, shape in outputs:
        width, rank = shape[-1] if shape else "", _RANKS[name]
        stated = isinstance(width, str) if name in ANSWERING else isinstance(width, int) and width > 0
        if kind != "FLOAT" or len(shape) != rank or not stated:
            raise Refusal(f"output {name}: {kind} {shape}; must be float32 of rank {rank}, its width stated"[:240])


def listed(values: list[Stated]) -> str:
    """Return names, as many as fit in a line."""
    return ", ".join(shown(name) for name, *_ in values[:6]) or "none"


def shown(name: str) -> str:
    """Return a name that any terminal can print, in one line."""
    return ascii(name)[1:-1][:60]


def first_line(error: BaseException) -> str:
    """Return what a library's error says, in one line of plain letters."""
    return ascii((str(error).strip().splitlines() or [type(error).__name__])[0])[1:-1][:240]
