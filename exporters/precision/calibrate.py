"""Fixed ranges for int8: what each activation spans on a sample, in place of what it spans in a batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from compressor.core.encoder import length_sorted_batches
from compressor.core.errors import TextError
from exporters.graph.axes import Axes, real_rows, text_axes
from exporters.graph.files import constants, makers, opened, reads, sort_nodes
from exporters.session import OnnxEncoder

Batch = Mapping[str, NDArray[np.int64]]
"""int64 [texts, tokens]: input_ids, attention_mask and, where the graph reads it, token_type_ids."""
Ranges = Mapping[str, tuple[float, float]]
_BATCH = 32


def batches_of_texts(folder: Path, texts: Sequence[str]) -> Iterator[Batch]:
    """Yield texts as an encoder's graph in ``folder`` reads them, those of like length together."""
    encoder = OnnxEncoder(folder, threads=1)
    tokens = encoder.tokenize(texts)
    for rows in length_sorted_batches(np.array([len(ids) for ids in tokens], np.int64), _BATCH):
        ids, mask = encoder.pad([tokens[i] for i in rows])
        yield {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def measure_ranges(graph: onnx.ModelProto, names: Sequence[str], batches: Iterable[Batch]) -> Ranges:
    """Return the least and the largest value of each tensor of ``graph`` over the batches, padding left out.

    Raises TextError where there is no batch.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for tensors in activations(graph, names, batches):
        for name, values in tensors.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
    if not ranges:
        raise TextError("int8.ranges = 'calibrated': no texts to calibrate on")
    return ranges


def activations(
    graph: onnx.ModelProto, names: Sequence[str], batches: Iterable[Batch]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield what each named tensor of ``graph`` holds in each batch, float32 [rows, units], padding left out.

    A tensor may have any shape: a row is a token of a text, or of a head, a text, or whatever a constant has.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    outputs = {output.name for output in graph.graph.output}
    added = [name for name in names if name not in outputs]
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in added)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with opened(probe, options) as session:
        inputs = [value.name for value in session.get_inputs()]

        def run(batch: Batch) -> list[NDArray[np.float32]]:
            return list(session.run(list(names), {name: batch[name] for name in inputs}))

        places: list[Axes] | None = None
        for batch in batches:
            places = places or text_axes(run, batch)
            mask = batch["attention_mask"].astype(bool)
            if mask.any():
                tensors = zip(names, run(batch), places, strict=True)
                yield {name: real_rows(values, mask, axes) for name, values, axes in tensors}


def dynamic_inputs(model: onnx.ModelProto) -> list[str]:
    """Name the tensors that a dynamically quantized graph takes the ranges of, batch by batch."""
    return [node.input[0] for node in model.graph.node if node.op_type == "DynamicQuantizeLinear"]


def fix_ranges(model: onnx.ModelProto, ranges: Ranges) -> None:
    """Give every activation of a dynamically quantized graph one scale and zero point for good, in place.

    Products stay as they are, uint8 by int8 into int32 and from there to float with the bias; they are written as
    ONNX Runtime's one operator for it, which it does not find by itself where the scales are constants.
    """
    graph = model.graph
    by_input: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            by_input.setdefault(name, []).append(node)
    made_by, counts = makers(model), reads(model)
    rewritten: list[NodeProto] = []
    gone: set[str] = set()
    for node in graph.node:
        if node.op_type == "DynamicQuantizeLinear":
            rewritten.append(_quantize(graph, node, ranges[node.input[0]]))
        elif node.op_type == "MatMulInteger":
            product, replaced = _product(node, by_input, made_by)
            gone.update(replaced | _take_bias(model, product, by_input, counts))
            rewritten.append(product)
        else:
            rewritten.append(node)
    remaining = [node for node in rewritten if node.op_type == "MatMulIntegerToFloat" or node.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(remaining)
    sort_nodes(model)


def _quantize(graph: Any, node: NodeProto, span: tuple[float, float]) -> NodeProto:
    values, scale, zero = node.output
    low, high = min(span[0], 0.0), max(span[1], 0.0)
    step = np.float32(max((high - low) / 255, 1e-12))
    graph.initializer.append(numpy_helper.from_array(np.array(step), scale))
    graph.initializer.append(numpy_helper.from_array(np.array(np.clip(np.rint(-low / step), 0, 255), np.uint8), zero))
    return helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [values], name=f"{node.name}.fixed")


def _product(
    node: NodeProto, by_input: Mapping[str, list[NodeProto]], made_by: Mapping[str, NodeProto]
) -> tuple[NodeProto, set[str]]:
    """Return the operator that stands for MatMulInteger, Cast and Mul, and the outputs of what it replaces.

    The quantizer writes these in just this form: the Mul's second input is the product of both scales.
    """
    (cast,) = by_input[node.output[0]]
    (scaled,) = by_input[cast.output[0]]
    scales = made_by[scaled.input[1]]
    a, b, a_zero, b_zero = node.input
    inputs, output = [a, b, *scales.input, a_zero, b_zero], scaled.output[0]
    product = helper.make_node("MatMulIntegerToFloat", inputs, [output], name=node.name, domain="com.microsoft")
    return product, {cast.output[0], output, scales.output[0]}


def _take_bias(
    model: onnx.ModelProto, product: NodeProto, by_input: Mapping[str, list[NodeProto]], counts: Mapping[str, int]
) -> set[str]:
    """Give a product the bias that is added to it alone, in place; return the output of the sum it then stands for."""
    output, stored = product.output[0], constants(model)
    added = next(iter(by_input.get(output, [])), None)
    if added is None or added.op_type != "Add" or counts[output] > 1:
        return set()
    columns = list(stored[product.input[1]].dims[-1:]) if product.input[1] in stored else []
    bias = next((name for name in added.input if name in stored and list(stored[name].dims) == columns), None)
    if bias is None:
        return set()
    product.input.append(bias)
    product.output[0] = added.output[0]
    return {added.output[0]}
