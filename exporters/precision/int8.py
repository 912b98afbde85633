"""int8 for ONNX Runtime: weights a channel, activations as they come, the vocabulary's table in 8 or 4 bits."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import onnx
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from pydantic import Field

from compressor.artifact.copying import copy_consumer_files
from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH, REDUCED, require_graph
from compressor.core.config import Config
from compressor.core.errors import ModelError, RecipeError
from compressor.core.progress import track
from exporters.graph.files import (
    ONE_FILE_BYTES,
    load,
    require_fp32,
    run_operators,
    save,
    weights_bytes,
    write,
)
from exporters.graph.rewrite import attention_by_products, drop_unread, gelu_after_bias, relu_by_range
from exporters.precision.calibrate import Batch, dynamic_inputs, fix_ranges, measure_ranges
from exporters.precision.products import after_pooling
from exporters.precision.smooth import Smooth, smooth
from exporters.precision.tables import Bits, quantize_tables


class OnnxInt8(Config):
    """Quantize the graph to int8."""

    reduce_range: bool = False
    """Use 7 bits of the weights: for x86 CPUs without VNNI, whose 16-bit sums overflow with 8."""
    embeddings: Bits = 8
    """Bits of a number in the vocabulary's table. 8: one scale a row. 4: one scale 32 columns, which nearly halves the
    largest part of a small artifact, and moves its vectors a little further from fp32. 32: as it was."""
    ranges: Literal["calibrated", "batch"] = "calibrated"
    """Where activations get their scales from: once from a sample of what is trained on, or each batch as it comes;
    then what a text gives depends on its neighbours a little."""
    sample: Annotated[int, Field(ge=1)] = 512
    """Texts, or questions, that calibrated ranges are measured on, at most."""
    smooth: Smooth = "normalizations"
    """SmoothQuant, with calibrated ranges: units of activations balanced against their weights. ``values``: what
    attention and ReLU give, which costs nothing; ``normalizations``: what these give, too, which halves what int8
    loses for a hundredth of the speed; ``all``: behind each Gelu, too, for three hundredths."""

    attention: Literal["fused", "products"] = "fused"
    """Each layer's attention as one operator, or as plain products with tokens in front: the same vectors, faster on
    some CPUs and slower on others."""

    def run(self, optimised: Path, draft: Draft, batches: Callable[[], Iterable[Batch]] | None = None) -> None:
        """Write the int8 form of an optimised fp32 folder into ``draft``.

        ``batches`` gives what calibrated ranges are measured on; RecipeError where these are asked for without.
        ArtifactError for a graph that is not fp32.
        """
        require_fp32(require_graph(optimised), "int8 is made")
        copy_consumer_files(optimised, draft.folder)
        exact = load(optimised / GRAPH)
        if self.ranges == "batch":
            model = self.quantize(exact)
        elif batches is None:
            raise RecipeError("int8.ranges = 'calibrated': needs texts to calibrate on; must be batch here")
        else:
            sample = list(batches())
            smooth(exact, lambda: tracked("balance", sample), self.smooth, after_pooling(exact))
            model = self.quantize(exact)
            if names := dynamic_inputs(model):  # a static student multiplies nothing
                fix_ranges(model, measure_ranges(exact, names, tracked("measure ranges", sample)))
                gelu_after_bias(model)
                relu_by_range(model)
        if self.attention == "products" and not attention_by_products(model):
            raise ModelError("int8.attention = products: this graph's layers cannot be written so; must be fused")
        drop_unread(model)
        save(model, draft.folder / GRAPH)
        draft.figures["operators"] = run_operators(draft.folder / GRAPH)
        draft.figures.update(self.noted())

    def noted(self) -> dict[str, Any]:
        """Return what is noted of weights: the bits of the table's, and whether all others have 7."""
        return {"embeddings": self.embeddings, **({REDUCED: True} if self.reduce_range else {})}

    def quantize(self, exact: onnx.ModelProto, kept: Sequence[str] = (), per_channel: bool = True) -> onnx.ModelProto:
        """Return the int8 form of a graph: products of activations with ranges of their batch.

        Nodes named in ``kept`` stay as they are; weights have a scale a column, or one each.
        """
        with TemporaryDirectory() as folder:
            graph, path = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
            write(exact, graph)
            level = logging.root.level
            logging.root.setLevel(logging.ERROR)  # it recommends a pre-processing that the optimiser has done
            try:
                quantize_dynamic(
                    str(graph),
                    str(path),
                    op_types_to_quantize=["MatMul", "Attention"],
                    nodes_to_exclude=[*after_pooling(exact), *kept],
                    per_channel=per_channel,
                    reduce_range=self.reduce_range,
                    weight_type=QuantType.QInt8,
                    use_external_data_format=weights_bytes(exact) > ONE_FILE_BYTES,
                    extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
                )
            finally:
                logging.root.setLevel(level)
            model = onnx.load(path)
        if self.embeddings != 32:
            quantize_tables(model, self.embeddings)
        return model


def tracked(label: str, batches: Sequence[Batch]) -> Iterator[Batch]:
    """Yield batches, and show how far their reader is."""
    with track(label, sum(len(batch["input_ids"]) for batch in batches)) as advance:
        for batch in batches:
            yield batch
            advance(len(batch["input_ids"]))
