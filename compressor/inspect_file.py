"""The process that opens a graph or tokenizer for the first time, with bounded memory and time, and little imported.

It is started by its path, reads one request from stdin (JSON, a line) and answers with one line on stdout. Nothing of
this project is imported here, and no PyTorch: a stranger's file is opened before half a second has gone by.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

try:
    import resource
except ImportError:  # Windows: the parent's time-out is the only bound
    resource = None  # type: ignore[assignment]

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
EMBEDDING, ANSWERING = ["last_hidden_state", "sentence_embedding"], ["start_logits", "end_logits"]
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
MOST_DEPTH = 2  # an If of CLS pooling holds plain operators, no further If
MOST_NODES = 100_000
MOST_TOKENS_A_CHARACTER = 8
SIDE_MB = 256  # what a few tokens may need beside the weights
_TEXTS = (
    "",
    "a",
    "The quick brown fox jumps over the lazy dog. " * 40,
    " ".join(chr(c) for c in range(33, 127)),
    "a" * 2000,
    "日本語 中文 한국어 עברית العربية 👩‍👩‍👧 e\u0301 ﬁ",
)


class Refusal(Exception):
    """What is wrong, in one line."""


def main() -> None:
    """Answer one request: ``{"found": facts}``, or ``{"refused": line}``."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    if resource:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import onnx  # while the parent hashes
    import onnxruntime
    import tokenizers

    request = json.loads(sys.stdin.readline())
    try:
        said: dict[str, Any] = {"found": inspect(request, onnx, onnxruntime, tokenizers)}
    except Refusal as refusal:
        said = {"refused": str(refusal)}
    except MemoryError:
        said = {"refused": f"asks for more than {request['memory_bytes'] >> 20} MiB of memory"}
    except Exception as error:  # parser, runtime and tokenizer raise their own kinds
        said = {"refused": f"cannot be read: {_first_line(error)}"}
    answer.write(json.dumps(said) + "\n")
    answer.flush()
    os._exit(0)  # no clean-up of what a stranger's graph left


def inspect(request: dict[str, Any], onnx: Any, onnxruntime: Any, tokenizers: Any) -> dict[str, Any]:
    """Check and run what the request names; Refusal at the first fault."""
    limited = _limit(request["memory_bytes"], request["cpu_seconds"])
    before = _peak_bytes()
    found: dict[str, Any] = {"limited": limited}
    if request.get("graph"):
        content = _read(request["graph"])
        model = _parsed(content, onnx)
        found |= check_model(model, onnx)
        del model
        found["dim"] = _run(content, found["inputs"], found["outputs"], request["memory_bytes"], onnxruntime)
    if request.get("tokenizer"):
        found["tokens"] = check_tokenizer(_read(request["tokenizer"]), tokenizers)
    after = _peak_bytes()
    if before is not None and after is not None:
        found["peak_bytes"] = after - before
        most = (SIDE_MB << 20) + 8 * sum(request[k]["size"] for k in ("graph", "tokenizer") if request.get(k))
        if after - before > most:
            raise Refusal(f"takes {(after - before) >> 20} MiB for 8 tokens; at most {most >> 20} are allowed")
    return found


def check_model(model: Any, onnx: Any) -> dict[str, Any]:
    """Return a parsed graph's inputs, outputs and operators; Refusal for what this project never writes."""
    if len(model.functions) or len(model.training_info):
        raise Refusal("defines functions of its own, or training; only plain operators are run")
    _check_opsets(model)
    _check_tensors(model.graph.initializer, onnx)
    inputs = [_stated(value, onnx) for value in model.graph.input]
    outputs = [_stated(value, onnx) for value in model.graph.output]
    _check_inputs(inputs)
    _check_outputs(outputs)
    operators: dict[str, int] = {}
    for node in _nodes(model.graph, onnx):
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
        if sum(operators.values()) > MOST_NODES:
            raise Refusal(f"more than {MOST_NODES} operators")
    return {
        "inputs": [name for name, *_ in inputs],
        "outputs": {name: shape for name, _, shape in outputs},
        "operators": operators,
    }


def check_tokenizer(content: bytes, tokenizers: Any) -> int:
    """Return the size of a vocabulary; Refusal for a tokenizer that cannot be read, or that blows texts up."""
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content.decode("utf-8"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        longest = [(len(text), len(tokenizer.encode(text).ids)) for text in _TEXTS]
    except Exception as error:  # the library raises nothing narrower
        raise Refusal(f"tokenizer.json: cannot be read: {_first_line(error)}") from error
    for characters, tokens in longest:
        if tokens > MOST_TOKENS_A_CHARACTER * (characters + 8):
            raise Refusal(f"tokenizer.json: makes {tokens} tokens of {characters} characters")
    return int(tokenizer.get_vocab_size())


def _limit(memory_bytes: int, cpu_seconds: int) -> bool:
    """Bound this process; return whether the system bounds its memory."""
    if resource is None:
        return False
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write
    try:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    except (ValueError, OSError):  # macOS
        return False
    return sys.platform.startswith("linux")


def _peak_bytes() -> int | None:
    """Return the most memory this process ever had; None where only the system of its parent could tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:")), None)
    except OSError:
        return None


def _read(wanted: dict[str, Any]) -> bytes:
    """Read a file once, so that what is checked is what is run."""
    with open(wanted["path"], "rb") as file:
        content = file.read(wanted["size"] + 1)
    if len(content) != wanted["size"] or hashlib.sha256(content).hexdigest() != wanted["sha256"]:
        raise Refusal("changed while it was being checked")
    return content


def _parsed(content: bytes, onnx: Any) -> Any:
    try:
        return onnx.ModelProto.FromString(content)
    except MemoryError:
        raise
    except Exception as error:  # protobuf's own kind
        raise Refusal("not a whole ONNX graph") from error


def _check_opsets(model: Any) -> None:
    seen: dict[str, int] = {}
    for entry in model.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        low, high = OPSETS.get(domain, (0, -1))
        if domain in seen or not low <= entry.version <= high:
            known = ", ".join(f"{name or 'ai.onnx'} {a} to {b}" for name, (a, b) in OPSETS.items())
            raise Refusal(f"operators of {_shown(domain or 'ai.onnx')} {entry.version}; known: {known}")
        seen[domain] = entry.version
    if "" not in seen:
        raise Refusal("names no version of ONNX's operators")


def _nodes(graph: Any, onnx: Any, depth: int = 0) -> Iterator[Any]:
    """Yield all operators, checked, those of branches too."""
    for node in graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        if node.op_type not in OPERATORS.get(domain, ()):
            raise Refusal(f"operator {_shown(domain or 'ai.onnx')}.{_shown(node.op_type)}: not one that is exported")
        yield node
        for attribute in node.attribute:
            _check_tensors([attribute.t, *attribute.tensors], onnx)
            if attribute.HasField("sparse_tensor") or len(attribute.sparse_tensors):
                raise Refusal("sparse tensors, which are never exported")
            branches = [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
            if branches and (node.op_type != "If" or depth + 1 >= MOST_DEPTH):
                raise Refusal(f"operator {_shown(node.op_type)} holds a graph of its own")
            for branch in branches:
                _check_tensors(branch.initializer, onnx)
                yield from _nodes(branch, onnx, depth + 1)
    if len(graph.sparse_initializer):
        raise Refusal("sparse tensors, which are never exported")


def _check_tensors(tensors: Iterable[Any], onnx: Any) -> None:
    for tensor in tensors:
        if tensor.data_location != onnx.TensorProto.DEFAULT or len(tensor.external_data):
            raise Refusal(f"tensor {_shown(tensor.name)} is kept in another file; weights must be in the graph")
        if any(dim < 0 for dim in tensor.dims):
            raise Refusal(f"tensor {_shown(tensor.name)} has a negative dimension")


Stated = tuple[str, str, list[int | str]]


def _stated(value: Any, onnx: Any) -> Stated:
    """Return name, type and shape of an input or output, dimensions as their number or their name."""
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in kind.shape.dim]
    names = onnx.TensorProto.DataType
    return value.name, names.Name(kind.elem_type) if kind.elem_type in names.values() else "", dims


def _check_inputs(inputs: list[Stated]) -> None:
    names = [name for name, *_ in inputs]
    if names not in (INPUTS, INPUTS[:2]):
        raise Refusal(f"inputs {_listed(names)}; must be {_listed(INPUTS)}, or the first two")
    for name, kind, shape in inputs:
        if kind != "INT64" or len(shape) != 2 or any(isinstance(dim, int) for dim in shape):
            raise Refusal(f"input {name}: {kind} {shape}; must be int64 [batch_size, sequence_length]"[:240])


def _check_outputs(outputs: list[Stated]) -> None:
    names = [name for name, *_ in outputs]
    if names not in (EMBEDDING, ANSWERING):
        raise Refusal(f"outputs {_listed(names)}; must be {_listed(EMBEDDING)} or {_listed(ANSWERING)}")
    ranks = (3, 2) if names == EMBEDDING else (2, 2)
    for (name, kind, shape), rank in zip(outputs, ranks, strict=True):
        width = shape[-1] if shape else ""
        static = isinstance(width, int) and width > 0 if names == EMBEDDING else isinstance(width, str)
        if kind != "FLOAT" or len(shape) != rank or not static:
            raise Refusal(f"output {name}: {kind} {shape}; must be float32 of rank {rank}, its width stated"[:240])


def _run(
    content: bytes, inputs: list[str], outputs: dict[str, list[int | str]], memory_bytes: int, onnxruntime: Any
) -> int | None:
    """Open the graph and run two texts of four tokens; return the vectors' length, None for logits."""
    import numpy as np

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int64)
    feeds = {"input_ids": np.zeros_like(mask), "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
    try:
        # From memory: a graph without a place on disk finds no file beside it.
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        made = session.run(list(outputs), {name: feeds[name] for name in inputs})
    except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
        reason = _first_line(error)
        if isinstance(error, MemoryError) or "alloc" in reason.lower():
            raise Refusal(f"asks for more than {memory_bytes >> 20} MiB of memory") from error
        raise Refusal(f"cannot be run: {reason}") from error
    for (name, shape), one in zip(outputs.items(), made, strict=True):
        wanted = {3: (2, 4, shape[-1]), 2: (2, shape[-1] if isinstance(shape[-1], int) else 4)}[len(shape)]
        if one.dtype != np.float32 or one.shape != wanted:
            raise Refusal(f"output {name} comes as {one.dtype} {list(one.shape)} where {list(wanted)} was stated")
        if not np.isfinite(one).all():
            raise Refusal(f"output {name} is not finite")
    width = list(outputs.values())[-1][-1]
    return width if isinstance(width, int) else None


def _listed(names: list[str]) -> str:
    return ", ".join(_shown(name) for name in names[:6]) or "none"


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:60]


def _first_line(error: Exception) -> str:
    return ascii((str(error).strip().splitlines() or [type(error).__name__])[0])[1:-1][:240]


if __name__ == "__main__":
    main()
