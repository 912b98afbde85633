"""Forms of a graph: what can be chosen about the way an encoder is written for ONNX Runtime."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import onnx

from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.core.config import Config
from compressor.core.errors import ModelError
from exporters.graph.files import load, save
from exporters.graph.optimise import Optimise
from exporters.graph.rewrite import (
    attention_by_products,
    drop_unread,
    gelu_after_bias,
    relu_by_range,
    separate_products,
    tanh_gelu,
    unmasked_where_whole,
)
from exporters.graph.roles import Kept, kept_nodes
from exporters.precision.calibrate import Batch, Ranges, dynamic_inputs, fix_ranges, measure_ranges
from exporters.precision.clipping import clipped, least_error, percentile
from exporters.precision.int8 import OnnxInt8
from exporters.precision.products import after_pooling
from exporters.precision.qdq import as_qdq
from exporters.precision.smooth import Smooth, smooth

_REWRITES = {
    "separate": separate_products,
    "unmasked": unmasked_where_whole,
    "products": attention_by_products,
}
_CLIPS = {"percentile": percentile, "least-error": least_error}
_Key = tuple[bool, str, str]


class Form(Config):
    """One way to write a graph."""

    precision: Literal["fp32", "int8"] = "int8"
    ranges: Literal["batch", "min-max", "percentile", "least-error"] = "min-max"
    """Where int8 activations get their scales from: each batch, or fixed by one of three rules from a sample."""
    smooth: Smooth = "normalizations"
    """SmoothQuant: units of activations balanced against their weights; those of attention's values alone are free."""
    kept: Kept = "none"
    """Products that stay fp32: behind each Gelu, where activations are widest; both of a feed-forward; attention's."""
    weights: Literal["channel", "tensor"] = "channel"
    """What has a scale of its own: each column of a weight, or the weight as a whole."""
    written: Literal["operators", "qdq"] = "operators"
    """int8 products as ONNX Runtime's own operators, or as float products between DequantizeLinear (QDQ)."""
    gelu: Literal["with-bias", "alone", "tanh"] = "alone"
    """One operator with the bias; the bias in the product before it; or the tanh form, which is not equal."""
    attention: Literal["fused", "separate", "unmasked", "products"] = "fused"
    """One operator with its projections; projections of their own; these without a mask where there is no padding;
    or plain products, tokens in front."""
    skip_normalization: bool = False
    """Residual and normalization as one operator."""

    def __str__(self) -> str:
        parts = ["fp32"] if self.precision == "fp32" else [f"int8 {self.ranges}", *self._int8()]
        parts += [f"attention {self.attention}", f"gelu {self.gelu}"]
        return ", ".join([*parts, "skip-normalization"] if self.skip_normalization else parts)

    @property
    def smooths(self) -> bool:
        """Whether activations are balanced: where int8 has fixed ranges."""
        return self.smooth != "none" and self.precision == "int8" and self.ranges != "batch"

    def _int8(self) -> list[str]:
        """Name what is not as it is by default."""
        deviations = {
            f"smooth {self.smooth}": self.smooths,
            f"{self.kept} kept fp32": self.kept != "none",
            "a scale a weight": self.weights == "tensor",
            "QDQ": self.written == "qdq",
        }
        return [name for name, stated in deviations.items() if stated]


@dataclass(frozen=True)
class Forms:
    """Writes the forms of one exported graph; what several of them need is made once."""

    exported: Path
    int8: OnnxInt8
    batches: Callable[[], Iterable[Batch]]
    """Gives what ranges are measured on."""
    _fused: dict[_Key, onnx.ModelProto] = field(default_factory=dict)
    _ranges: dict[tuple[_Key, str], Ranges] = field(default_factory=dict)

    def write(self, form: Form, path: Path) -> None:
        """Write the graph in ``form`` to ``path``; ModelError where this graph cannot be written so."""
        model = self._quantized(form) if form.precision == "int8" else _copy(self._fp32(form))
        if form.gelu != "with-bias" and form.precision == "int8" and form.ranges != "batch":
            gelu_after_bias(model)
        if form.gelu == "tanh" and not tanh_gelu(model):
            raise ModelError("gelu = tanh: no Gelu in this graph")
        relu_by_range(model)
        rewrite = _REWRITES.get(form.attention)
        if rewrite and not rewrite(model):
            raise ModelError(f"attention = {form.attention}: this graph's layers cannot be written so")
        if form.written == "qdq" and form.precision == "int8" and not as_qdq(model):
            raise ModelError("written = qdq: no int8 product of fixed ranges in this graph")
        drop_unread(model)
        save(model, path)

    def kept(self, form: Form) -> int:
        """Count the products of the written graph that stay fp32 as the form says."""
        fused = self._fp32(form)
        kinds = {node.name: node.op_type for node in fused.graph.node}
        apart = form.attention != "fused"  # then its three projections are products of their own
        return sum(3 if kinds[name] == "Attention" and apart else 1 for name in set(kept_nodes(fused, form.kept)))

    def _quantized(self, form: Form) -> onnx.ModelProto:
        fused = self._fp32(form)
        kept = kept_nodes(fused, form.kept)
        if form.kept != "none" and not kept:
            raise ModelError(f"kept = {form.kept}: no such product in this graph")
        model = self.int8.quantize(fused, kept, form.weights == "channel")
        if form.ranges != "batch" and (names := dynamic_inputs(model)):
            fix_ranges(model, self._measured(form, fused, names))
        return model

    def _measured(self, form: Form, fused: onnx.ModelProto, names: list[str]) -> Ranges:
        key, widest = (self._key(form), form.ranges), (self._key(form), "min-max")
        if widest not in self._ranges or not set(names) <= set(self._ranges[widest]):
            self._ranges[widest] = measure_ranges(fused, names, self.batches())
        if key not in self._ranges or not set(names) <= set(self._ranges[key]):
            self._ranges[key] = clipped(fused, self._ranges[widest], self.batches(), _CLIPS[form.ranges])
        return self._ranges[key]

    def _fp32(self, form: Form) -> onnx.ModelProto:
        key = self._key(form)
        if key not in self._fused:
            with TemporaryDirectory() as folder:
                to = Path(folder) / "fused"
                to.mkdir()
                Optimise(skip_normalization=form.skip_normalization).run(self.exported, Draft(to))
                model = load(to / GRAPH)
            if form.smooths:
                left = [*after_pooling(model), *kept_nodes(model, form.kept)]
                smooth(model, self.batches, form.smooth, left)
            self._fused[key] = model
        return self._fused[key]

    @staticmethod
    def _key(form: Form) -> _Key:
        """Return what the fp32 graph of a form depends on."""
        smoothed = (str(form.smooth), str(form.kept)) if form.smooths else ("none", "none")
        return form.skip_normalization, *smoothed


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
