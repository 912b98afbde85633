"""Graphs as files: read, written, and as ONNX Runtime runs them."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto

from compressor.artifact.layout import INTEGER_PRODUCTS
from compressor.core.errors import ArtifactError, first_line, unreadable

_EXACT = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
_PRECISIONS = {TensorProto.INT8: "int8", TensorProto.UINT8: "int8", TensorProto.FLOAT16: "fp16"}


def load(path: Path) -> onnx.ModelProto:
    """Read a graph; ArtifactError if it is none, or not whole."""
    try:
        return onnx.load(path, load_external_data=False)
    except PermissionError as error:
        raise ArtifactError(unreadable(path, error)) from error
    except (OSError, DecodeError) as error:
        raise ArtifactError(f"{path}: missing, or not a whole ONNX graph") from error


def save(model: onnx.ModelProto, path: Path) -> None:
    """Save with stable names and no trace of the machine, so that equal models give equal bytes."""
    model.producer_name, model.producer_version = "compressor", ""
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.save(model, path)


def run_operators(graph: Path, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> dict[str, int]:
    """Count the operators of the graph as ONNX Runtime runs it; ArtifactError if it cannot be loaded."""
    return operators(as_run(graph, providers))


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """Count the operators of a graph, those of its branches included."""
    return dict(sorted(Counter(node.op_type for node in nodes(model.graph)).items()))


def as_run(graph: Path, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> onnx.ModelProto:
    """Return the graph as ONNX Runtime runs it, after its own optimisations at load.

    ArtifactError if it cannot be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "run.onnx")
        try:
            onnxruntime.InferenceSession(str(graph), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
            raise ArtifactError(f"{graph}: cannot be loaded: {first_line(error)}") from error
        return onnx.load(options.optimized_model_filepath, load_external_data=False)


def makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return each tensor's operator, by the tensor's name."""
    return {name: node for node in model.graph.node for name in node.output}


def reads(model: onnx.ModelProto) -> Counter[str]:
    """Count how often each tensor is read: by operators, by those of their branches, and as an output.

    What is read as often as a rewrite changes its readers is theirs alone; anything else must be left as it is.
    """
    counts = Counter(name for node in nodes(model.graph) for name in node.input)
    for graph in (model.graph, *branches(model.graph)):
        counts.update(output.name for output in graph.output)
    return counts


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the stored tensors by their names."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def multiplies_int8(graph: Path) -> bool:
    """Whether ONNX Runtime, as it runs the graph, multiplies integers; ArtifactError if it cannot be loaded."""
    return not run_operators(graph).keys().isdisjoint(INTEGER_PRODUCTS)


def require_fp32(graph: Path, made: str) -> None:
    """Refuse a graph with matrices of another precision than fp32; ArtifactError names it and what is ``made``."""
    model = load(graph)
    stored = [t for part in (model.graph, *branches(model.graph)) for t in part.initializer]
    stored += [a.t for node in nodes(model.graph) for a in node.attribute if node.op_type == "Constant"]
    for tensor in stored:
        if len(tensor.dims) > 1 and tensor.data_type not in _EXACT:
            kind = _PRECISIONS.get(tensor.data_type, onnx.TensorProto.DataType.Name(tensor.data_type).lower())
            raise ArtifactError(f"{graph}: {kind} already; {made} from the fp32 graph")


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the operators of a graph, those of its branches behind the If that they belong to."""
    for node in graph.node:
        yield node
        for branch in branches_of(node):
            yield from nodes(branch)


def branches(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs within a graph's operators, at any depth."""
    for node in nodes(graph):
        yield from branches_of(node)


def branches_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that an operator holds itself: those of an If, or the body of a Loop."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
