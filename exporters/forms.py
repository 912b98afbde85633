"""Forms of a graph: what can be chosen about the way an encoder is written for ONNX Runtime."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import onnx

from compressor.artifact import Draft
from compressor.errors import ModelError
from compressor.recipe import Config
from exporters.calibrate import Batch, Ranges, dynamic_inputs, fix_ranges, measure_ranges
from exporters.clipping import clipped, least_error, percentile
from exporters.graph import load, save
from exporters.layout import GRAPH
from exporters.optimise import Optimise
from exporters.quantize import OnnxInt8
from exporters.rewrite import attention_by_products, drop_unread, gelu_after_bias, separate_products, tanh_gelu
from exporters.smooth import smooth

_CLIPS = {"percentile": percentile, "least-error": least_error}


class Form(Config):
    """One way to write a graph."""

    precision: Literal["fp32", "int8"] = "int8"
    ranges: Literal["batch", "min-max", "percentile", "least-error"] = "min-max"
    """Where int8 activations get their scales from: each batch, or fixed by one of three rules from a sample."""
    smooth: Literal["none", "values", "all"] = "none"
    """SmoothQuant: units of activations balanced against their weights; those of attention's values alone are free."""
    gelu: Literal["with-bias", "alone", "tanh"] = "alone"
    """One operator with the bias; the bias in the product before it; or the tanh form, which is not equal."""
    attention: Literal["fused", "separate", "products"] = "fused"
    """One operator with its projections; projections of their own; or plain products, tokens in front."""
    skip_normalization: bool = False
    """Residual and normalization as one operator."""

    def __str__(self) -> str:
        if self.precision == "fp32":
            return f"fp32, attention {self.attention}, gelu {self.gelu}{self._skip()}"
        smoothed = "" if self.smooth == "none" else f", smooth {self.smooth}"
        return f"int8 {self.ranges}{smoothed}, attention {self.attention}, gelu {self.gelu}{self._skip()}"

    def _skip(self) -> str:
        return ", skip-normalization" if self.skip_normalization else ""


@dataclass(frozen=True)
class Forms:
    """Writes the forms of one exported graph; what several of them need is made once."""

    exported: Path
    int8: OnnxInt8
    batches: Callable[[], Iterable[Batch]]
    """Gives what ranges are measured on."""
    _fused: dict[tuple[bool, str], onnx.ModelProto] = field(default_factory=dict)
    _ranges: dict[tuple[bool, str, str], Ranges] = field(default_factory=dict)

    def write(self, form: Form, path: Path) -> None:
        """Write the graph in ``form`` to ``path``; ModelError where this graph cannot be written so."""
        model = self._quantized(form) if form.precision == "int8" else _copy(self._fp32(form))
        if form.gelu != "with-bias" and form.precision == "int8" and form.ranges != "batch":
            gelu_after_bias(model)
        if form.gelu == "tanh" and not tanh_gelu(model):
            raise ModelError("gelu = tanh: no Gelu in this graph")
        rewrite = {"separate": separate_products, "products": attention_by_products}.get(form.attention)
        if rewrite and not rewrite(model):
            raise ModelError(f"attention = {form.attention}: this graph's layers cannot be written so")
        drop_unread(model)
        save(model, path)

    def _quantized(self, form: Form) -> onnx.ModelProto:
        fused = self._fp32(form)
        with TemporaryDirectory() as folder:
            onnx.save(fused, Path(folder) / "fp32.onnx")
            model = self.int8.quantize(Path(folder) / "fp32.onnx")
        if form.ranges != "batch" and (names := dynamic_inputs(model)):
            fix_ranges(model, self._measured(form, fused, names))
        return model

    def _measured(self, form: Form, fused: onnx.ModelProto, names: list[str]) -> Ranges:
        key = form.skip_normalization, form.smooth, form.ranges
        widest = (*key[:2], "min-max")
        if widest not in self._ranges:
            self._ranges[widest] = measure_ranges(fused, names, self.batches())
        if key not in self._ranges:
            self._ranges[key] = clipped(fused, self._ranges[widest], self.batches(), _CLIPS[form.ranges])
        return self._ranges[key]

    def _fp32(self, form: Form) -> onnx.ModelProto:
        key = form.skip_normalization, form.smooth
        if key not in self._fused:
            with TemporaryDirectory() as folder:
                to = Path(folder) / "fused"
                to.mkdir()
                Optimise(skip_normalization=form.skip_normalization).run(self.exported, Draft(to))
                model = load(to / GRAPH)
            if form.smooth != "none" and not smooth(model, self.batches(), form.smooth == "all"):
                raise ModelError(f"smooth = {form.smooth}: nothing in this graph to balance")
            self._fused[key] = model
        return self._fused[key]


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied
