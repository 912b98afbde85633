"""fp16 for CUDA: half the bytes and the tensor cores' arithmetic, behind fp32 inputs and outputs."""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16

from compressor.artifact.cases import FP16_COSINE
from compressor.artifact.copying import copy_consumer_files
from compressor.artifact.folder import Draft
from compressor.artifact.layout import TAIL, require_graph
from compressor.core.config import Config
from exporters.graph.files import load, makers, nodes, reads, require_fp32, run_operators, save
from exporters.verify.check import Check, Cosine, gate
from exporters.verify.closeness import of_cases
from exporters.verify.conformance import own_conformance


class Half(Config):
    """Convert an fp32 artifact's graph to fp16, for CUDA. Pooling and what follows it stay fp32."""

    cosine_min: Cosine = FP16_COSINE
    """Least cosine of an output with the fp32 graph's, on the hard texts of the conformance set."""

    def run(self, fp32: Path, draft: Draft) -> None:
        """Write the fp16 form of the artifact folder ``fp32`` into ``draft``; a conformance set becomes its own.

        Inputs stay int64 and outputs float32, so that it is loaded as before. Checked on the CPU, where ONNX Runtime
        computes in fp32 what is stored in fp16; GateError below the bar, ArtifactError for a graph that is not fp32.
        """
        graph = require_graph(fp32)
        require_fp32(graph, "fp16 is made")
        copy_consumer_files(fp32, draft.folder)
        path = draft.folder / graph.relative_to(fp32)
        save(half(load(graph)), path)
        draft.figures["operators"] = run_operators(path)
        own_conformance(fp32, draft.folder, "fp16")
        least = of_cases(fp32, draft.folder).cosine_min
        check = Check("fp16", "parity with fp32", "cosine_min", least, self.cosine_min, field="fp16.cosine_min")
        draft.figures["checks"] = [check.as_dict()]
        gate([check])


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph in fp16 with fp32 outputs: ONNX Runtime's own conversion, what follows the transformer left out.

    A mean over hundreds of tokens and the length of a vector want more than fp16's ten bits.
    """
    tail = [node.name for node in model.graph.node if f"/{TAIL}." in node.name]
    halved: onnx.ModelProto = convert_float_to_float16(
        model, keep_io_types=True, disable_shape_infer=True, node_block_list=tail
    )
    _drop_repeated(halved)
    _drop_round_trips(halved)
    return halved


def _drop_repeated(model: onnx.ModelProto) -> None:
    """Take out, in place, the second of two equal casts: the conversion writes one for each operator that reads it."""
    by_output = {node.output[0]: node for node in reversed(model.graph.node)}
    own = [node for node in model.graph.node if by_output[node.output[0]] is node]
    del model.graph.node[:]
    model.graph.node.extend(own)


def _drop_round_trips(model: onnx.ModelProto) -> None:
    """Take out, in place, the casts of an fp32 output to fp16 and back that the conversion leaves."""
    made_by = makers(model)
    for back in [node for node in model.graph.node if node.op_type == "Cast" and node.output[0] in _outputs(model)]:
        cast = made_by[back.input[0]]
        source = cast.input[0]
        if cast.op_type != "Cast" or source not in made_by or source in _outputs(model):
            continue
        for node in nodes(model.graph):
            node.input[:] = [back.output[0] if name == source else name for name in node.input]
            node.output[:] = [back.output[0] if name == source else name for name in node.output]
        model.graph.node.remove(back)
        if not reads(model)[cast.output[0]]:
            model.graph.node.remove(cast)


def _outputs(model: onnx.ModelProto) -> set[str]:
    return {output.name for output in model.graph.output}
