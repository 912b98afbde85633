"""A graph of others under this project's names: ids, mask and types in, tokens' vectors and texts' vectors out."""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, ValueInfoProto, helper

from compressor.artifact.layout import EMBEDDING, INPUTS, TAIL
from compressor.core.errors import ModelError
from compressor.untrusted.foreign import read_outputs
from exporters.foreign.settings import Stated
from exporters.foreign.tail import add_cut, add_tail
from exporters.graph.files import branches, nodes

_BATCH, _LENGTH = "batch_size", "sequence_length"
_WHOLE = f"{EMBEDDING[1]}_whole"


def rewrite(model: onnx.ModelProto, stated: Stated, widths: Mapping[str, int]) -> None:
    """Give the graph this project's inputs and outputs, in place; of what it gives, ``widths`` says the lengths.

    A graph without a vector a text gets what is ``stated`` behind its tokens' vectors; one with it, the cut alone.
    ModelError where it has tensors of the names that this needs.
    """
    graph = model.graph
    del graph.value_info[:]  # what they say may be no longer so
    outputs = {output.name: output for output in graph.output}
    _state_inputs(model)
    del graph.output[:]
    tokens = next((name for name in read_outputs(list(outputs)) if name != EMBEDDING[1]), None)
    if tokens is not None:
        _call(model, outputs[tokens], EMBEDDING[0])
        axes: list[str | int | None] = [_BATCH, _LENGTH, widths[tokens]]
        graph.output.append(helper.make_tensor_value_info(EMBEDDING[0], TensorProto.FLOAT, axes))
    if EMBEDDING[1] in outputs:
        dim = _cut(model, outputs[EMBEDDING[1]], widths[EMBEDDING[1]], stated.dim)
    else:
        assert tokens is not None  # who gives neither was refused
        dim = add_tail(model, EMBEDDING[0], widths[tokens], stated.cut(widths[tokens]))
    graph.output.append(helper.make_tensor_value_info(EMBEDDING[1], TensorProto.FLOAT, [_BATCH, dim]))
    _drop_domains(model)


def _state_inputs(model: onnx.ModelProto) -> None:
    """State the inputs in this project's order and dimensions; what is stored is none, as old exporters had it.

    The mask is always one: pooling reads it, and sessions give it.
    """
    graph = model.graph
    taken = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    del graph.input[:]
    names = [name for name in INPUTS if name in taken or name == INPUTS[1]]
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.INT64, [_BATCH, _LENGTH]) for name in names)


def _call(model: onnx.ModelProto, output: ValueInfoProto, name: str) -> None:
    """Have the graph give ``output`` as float32 and by this ``name``."""
    if output.type.tensor_type.elem_type == TensorProto.FLOAT16:
        _rename(model, output.name, f"{name}_half")
        cast = f"/{TAIL}.0/{name}_float"
        model.graph.node.append(helper.make_node("Cast", [f"{name}_half"], [name], name=cast, to=TensorProto.FLOAT))
    elif output.name != name:
        _rename(model, output.name, name)


def _cut(model: onnx.ModelProto, output: ValueInfoProto, width: int, dim: int | None) -> int:
    """Have the graph give the first ``dim`` components of a vector a text that it makes itself; return their number."""
    if dim is None or dim >= width:
        _call(model, output, EMBEDDING[1])
        return width
    _call(model, output, _WHOLE)
    add_cut(model, _WHOLE, width, dim)
    return dim


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename a tensor wherever it is made or read, branches included; ModelError where another has the name."""
    every = list(nodes(model.graph))
    if any(new in (*node.input, *node.output) for node in every):
        raise ModelError(f"output {old!a:.40} is to be called {new}, which another tensor of the graph is")
    for node in every:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == old:
                    names[place] = new
    for branch in branches(model.graph):
        for output in branch.output:
            output.name = new if output.name == old else output.name


def _drop_domains(model: onnx.ModelProto) -> None:
    """Leave out the domains of operators that are not there; ONNX Runtime's optimiser names all of its own."""
    used = {node.domain for node in nodes(model.graph)} | {"", "ai.onnx"}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
