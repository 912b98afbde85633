"""Graphs as files: read, written, and as ONNX Runtime runs them."""

from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

from compressor.artifact.layout import DATA, INTEGER_PRODUCTS
from compressor.core.errors import ArtifactError, first_line, unreadable

_EXACT = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}
_PRECISIONS = {TensorProto.INT8: "int8", TensorProto.UINT8: "int8", TensorProto.FLOAT16: "fp16"}

PACKED = "int4"
"""Ends the name of a stored table that holds two numbers of 4 bits a byte."""
ONE_FILE_BYTES = (1 << 31) - (1 << 24)
"""Weights in the file of a graph, at most: protobuf's bound, less what the graph itself may take."""
_OWN_FILE_BYTES = 1024  # of a tensor; a smaller one, which a graph may compute with as it is built, stays in the graph


def load(path: Path, weights: bool = True) -> onnx.ModelProto:
    """Read a graph, with the ``weights`` that ``write`` put beside it; ArtifactError if it is none, or not whole."""
    try:
        model = onnx.load(path, load_external_data=False)
        if weights and _lies_beside(model):
            load_external_data_for_model(model, str(path.parent))
    except PermissionError as error:
        raise ArtifactError(unreadable(path, error)) from error
    except (OSError, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"{path}: missing, or not a whole ONNX graph") from error
    return model


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph as it is: one file, and where that cannot hold the weights, another beside it with them."""
    data = path.with_name(DATA.name)
    data.unlink(missing_ok=True)  # it would be added to
    if weights_bytes(model) <= ONE_FILE_BYTES:
        onnx.save(model, path)
        return
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=_OWN_FILE_BYTES)
    load_external_data_for_model(model, str(path.parent))  # saving takes the weights out of it


def weights_bytes(model: onnx.ModelProto) -> int:
    """Return how many bytes a graph's stored tensors take."""
    return sum(tensor.ByteSize() for graph in (model.graph, *branches(model.graph)) for tensor in graph.initializer)


def _lies_beside(model: onnx.ModelProto) -> bool:
    """Tell whether a graph's weights lie in the file that ``write`` names, all that lie in another."""
    outside = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    return bool(outside) and {ExternalDataInfo(tensor).location for tensor in outside} == {DATA.name}


@contextmanager
def opened(model: onnx.ModelProto, options: onnxruntime.SessionOptions) -> Iterator[onnxruntime.InferenceSession]:
    """Give a CPU session of a graph in memory, by way of a file where it is too large for another."""
    providers = ["CPUExecutionProvider"]
    if weights_bytes(model) <= ONE_FILE_BYTES:
        yield onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        return
    with TemporaryDirectory() as folder:
        write(model, path := Path(folder) / "model.onnx")
        yield onnxruntime.InferenceSession(str(path), options, providers=providers)


def require_one_file(graph: Path, what: str) -> None:
    """Refuse, for ``what``, a graph whose weights lie in another file: ArtifactError."""
    if any(uses_external_data(tensor) for tensor in load(graph, weights=False).graph.initializer):
        raise ArtifactError(f"{graph}: its weights lie in another file, which {what} does not take (more than 2 GiB)")


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
    sort_nodes(model)
    write(model, path)


def sort_nodes(model: onnx.ModelProto) -> None:
    """Put each operator behind those that it reads from, in place, as ONNX asks for; what stands so already stays."""
    _sort(model.graph)


def _sort(graph: onnx.GraphProto) -> None:
    ordered = _in_order(list(graph.node))
    del graph.node[:]
    graph.node.extend(ordered)
    for node in graph.node:
        for branch in branches_of(node):
            _sort(branch)


def _in_order(own: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    made_by = {name: number for number, node in enumerate(own) for name in node.output if name}
    before = [[made_by[name] for name in outer_reads(node) if name in made_by] for node in own]
    placed, begun = dict[int, None](), set[int]()
    for number in range(len(own)):
        waiting = [number]
        while waiting:
            begun.add(waiting[-1])  # what has begun and is not placed is a circle, which nothing puts in order
            if missing := [other for other in before[waiting[-1]] if other not in begun]:
                waiting += reversed(missing)
            else:
                placed.setdefault(waiting.pop())
    return [own[number] for number in placed]


def outer_reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the tensors that an operator reads of the graph it stands in, those that its branches read included."""
    yield from node.input
    for branch in branches_of(node):
        inner = {name for own in branch.node for name in own.output}
        inner |= {value.name for value in (*branch.input, *branch.initializer)}
        read = [name for own in branch.node for name in outer_reads(own)]
        yield from (name for name in (*read, *(value.name for value in branch.output)) if name not in inner)


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
        if graph.with_name(DATA.name).is_file():  # it is too large for one file once more
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "run.data")
        try:
            onnxruntime.InferenceSession(str(graph), options, providers=list(providers))
        except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
            raise ArtifactError(f"{graph}: cannot be loaded: {first_line(error)}") from error
        return onnx.load(options.optimized_model_filepath, load_external_data=False)


def shape_of(value: onnx.ValueInfoProto) -> str:
    """Write the type and the dimensions of an input or output: float [batch_size, 384]."""
    kind = value.type.tensor_type
    dims = ", ".join(dim.dim_param or str(dim.dim_value) for dim in kind.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(kind.elem_type).lower()} [{dims}]"


def numbers(model: onnx.ModelProto, kinds: Container[int] | None = None) -> int:
    """Count the numbers in the stored tensors, of some ``kinds`` or all; of 4 bits, two lie in a byte of a table."""
    return sum(
        prod(tensor.dims) * (2 if tensor.name.endswith(f".{PACKED}") else 1)
        for tensor in model.graph.initializer
        if kinds is None or tensor.data_type in kinds
    )


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
    model = load(graph, weights=False)
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
