"""What a graph in ONNX Runtime's own format holds, read with the runtime's own schema before the runtime opens it."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compressor.untrusted.graph import (
    MOST_NODES,
    Refusal,
    Stated,
    check_branches,
    check_contract,
    check_operator,
    count_operators,
    first_line,
)  # fmt: skip

MARK = b"ORTM"
_KINDS = {"tensor(int64)": "INT64", "tensor(float)": "FLOAT"}


def operators_of(content: bytes, form: str) -> Counter[str]:
    """Return the operators of a graph; Refusal for what this project never writes, and for what cannot be read."""
    import onnxruntime

    # The schema alone: what lies beside it asks for a folder to write in.
    sys.path.append(str(Path(onnxruntime.__file__).parent / "tools" / "ort_format_model"))
    from ort_flatbuffers_py.fbs import InferenceSession as Session

    try:
        graph = Session.InferenceSession.GetRootAs(content, 0).Model().Graph()
        return count_operators(_nodes(graph, form))
    except (Refusal, MemoryError):
        raise
    except Exception as error:  # offsets that lead nowhere: struct's, numpy's and Python's own kinds
        raise Refusal(f"not a whole graph in ONNX Runtime's own format: {first_line(error)}") from error


def check_session(session: Any, form: str) -> list[Stated]:
    """Return the outputs; Refusal for a session with other names, types or shapes than those of ``form``."""
    outputs = _stated(session.get_outputs())
    check_contract(_stated(session.get_inputs()), outputs, form)
    return outputs


def _stated(values: Any) -> list[Stated]:
    return [(value.name, _KINDS.get(value.type, value.type), value.shape) for value in values]


def _nodes(graph: Any, form: str, depth: int = 0) -> Iterator[str]:
    """Yield the names of all operators, checked, those of branches too."""
    if graph.SparseInitializersLength():
        raise Refusal("sparse tensors, which are never exported")
    for tensor in _each(graph.Initializers, graph.InitializersLength()):
        _check_tensor(tensor)
    for node in _each(graph.Nodes, graph.NodesLength()):
        name = _text(node.OpType())
        check_operator(_text(node.Domain()), name, form)
        yield name
        for attribute in _each(node.Attributes, node.AttributesLength()):
            for tensor in [attribute.T(), *_each(attribute.Tensors, attribute.TensorsLength())]:
                if tensor is not None:
                    _check_tensor(tensor)
            branches = [
                branch for branch in (attribute.G(), *_each(attribute.Graphs, attribute.GraphsLength())) if branch
            ]
            check_branches(name, len(branches), depth)
            for branch in branches:
                yield from _nodes(branch, form, depth + 1)


def _check_tensor(tensor: Any) -> None:
    if tensor.ExternalDataOffset() >= 0:
        raise Refusal("a tensor is kept in another file; weights must be in the graph")


def _each(get: Any, count: int) -> Iterator[Any]:
    if count > MOST_NODES:
        raise Refusal(f"a list of {count}; at most {MOST_NODES} are read")
    return (get(i) for i in range(count))


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")
