"""The gate: what an artifact must keep of its student and its teacher before it is handed out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from compressor.artifact.folder import Draft, write_json
from compressor.artifact.layout import GRAPH
from compressor.core.config import Config
from compressor.core.errors import GateError, ModelError

if TYPE_CHECKING:
    from compressor.core.encoder import Vectors
    from compressor.models.agreement import Heldout
    from exporters.session import OnnxEncoder

# NumPy, PyTorch and the runtimes are imported where they measure: `compressor verify ARTIFACT` needs none of them.

Share = Annotated[float, Field(ge=-1, le=1)]
_UNCHANGED, _RANGES_A_BATCH = 0.99999, [0.98, 0.97]  # least cosines: padded, in a batch
_ANY_DIFFERENCE = 1.0  # of two components of unit vectors: unrelated models are nearer
_ATTENTION = ("Attention", "MultiHeadAttention", "QAttention")
_GELU = ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")
Fused = bool | Literal["auto"]
_FUSED = {
    "bert", "camembert", "data2vec-text", "distilbert", "electra", "ernie", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip
"""Families whose attention and Gelu ONNX Runtime's optimiser fuses in every layer."""


@dataclass(frozen=True)
class Check:
    """One figure of an artifact against its bar; without a bar it is only stated."""

    artifact: str
    check: str
    figure: str
    value: float
    bar: float | None = None
    direction: Literal[">=", "<="] = ">="
    field: str | None = None
    """The recipe's field that holds the bar, where one does."""

    @property
    def passed(self) -> bool:
        if self.bar is None:
            return True
        # A NaN passes neither way.
        return self.value >= self.bar if self.direction == ">=" else self.value <= self.bar

    @property
    def off(self) -> bool:
        """Whether the bar is so low that no working model could miss it: a cosine, share or score of 0 or less."""
        if self.bar is None:
            return False
        return self.bar <= 0 if self.direction == ">=" else self.bar >= _ANY_DIFFERENCE

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed, "off": self.off}


class Verify(Config):
    """Bars that the artifacts must clear; a miss fails the run."""

    parity: Annotated[float, Field(gt=0)] = 1e-5
    """fp32: largest difference of a vector's component from PyTorch's, over batch sizes and lengths, and of texts."""
    int8_cosine_mean: Share = 0.98
    """int8: mean cosine with the PyTorch student's vectors."""
    teacher_cosine_mean: Share = 0.85
    """Mean cosine with the teacher's vectors on held-out texts."""
    teacher_cosine_p1: Share = 0.6
    """1st percentile of the cosine with the teacher's vectors."""
    teacher_cosine_min: Share = 0.2
    """Least cosine with the teacher's vectors."""
    neighbours_at_10: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of a held-out text's 10 nearest texts in common with the teacher."""
    padding_cosine_min: Share | None = None
    """int8: least cosine of a text's vector with the same text's, padded; by default 0.99999, and 0.98 with ranges a
    batch. fp32 must keep 0.99999."""
    batch_cosine_min: Share | None = None
    """int8: least cosine of a text's vector alone with the same text's in a batch; by default 0.99999, and 0.97 with
    ranges a batch. fp32 must keep 0.99999."""
    fused: Fused = "auto"
    """Every layer's attention and Gelu must run as one fused operator each: ``auto`` where ONNX Runtime's optimiser
    fuses the family's layers (BERT, RoBERTa, XLM-R, DistilBERT, ELECTRA and the like)."""

    def run(self, fp32: Path, int8: Path, student: Path, heldout: "Heldout", draft: Draft) -> None:
        """Examine both artifacts and write ``checks.json`` into ``draft``; ``gate`` judges it."""
        checks = [
            check.as_dict()
            for name, folder in (("fp32", fp32), ("int8", int8))
            for check in self.examine(name, folder, student, heldout)
        ]
        write_checks(checks, draft)

    def examine(self, name: str, folder: Path, student: Path, heldout: "Heldout") -> list[Check]:
        """Measure the artifact in ``folder`` (``name`` is "fp32" or "int8") against its student and its teacher."""
        from compressor.models.projection import Projection
        from compressor.models.sentence_model import embedding_dimension, open_model, transformer_of
        from exporters.graph.static import as_transformer
        from exporters.session import OnnxEncoder

        encoder = OnnxEncoder(folder)
        model = open_model(student, attention="eager")
        if encoder.dim != (width := embedding_dimension(model)):
            raise ModelError(
                f"{student}: vectors of length {width}, those of {folder} have {encoder.dim}; not its student"
            )
        vectors = encoder.encode(heldout.texts)
        return [
            *self._student(name, encoder, model, heldout.texts, vectors),
            *self._teacher(name, heldout.agreement(vectors, Projection.load(student))),
            *self._invariance(name, encoder, heldout.texts[:256]),
            *self._folder(name, encoder, model),
            *operator_checks(name, folder, transformer_of(as_transformer(model)).config, self.fused),
        ]

    def _student(
        self, name: str, encoder: "OnnxEncoder", model: Any, heldout: Sequence[str], vectors: "Vectors"
    ) -> list[Check]:
        from compressor.models.agreement import cosines
        from compressor.models.sentence_model import TorchEncoder
        from exporters.graph.static import as_transformer
        from exporters.verify.parity import largest_difference, parity

        label, own = "parity with PyTorch", TorchEncoder(model).encode(heldout, batch_size=64)
        if name == "fp32":
            worst, of_texts = parity(encoder, as_transformer(model)), largest_difference(own, vectors)
            return [
                Check(name, label, "max_difference", worst, self.parity, "<=", "verify.parity"),
                Check(name, label, "max_difference_of_texts", of_texts, self.parity, "<=", "verify.parity"),
            ]
        cosine, bar = cosines(own, vectors), self.int8_cosine_mean
        return [
            Check(name, label, "cosine_mean", float(cosine.mean()), bar, field="verify.int8_cosine_mean"),
            Check(name, label, "cosine_min", float(cosine.min())),
        ]

    def _teacher(self, name: str, figures: Mapping[str, float]) -> list[Check]:
        bars = {
            "cosine_mean": self.teacher_cosine_mean,
            "cosine_p1": self.teacher_cosine_p1,
            "cosine_min": self.teacher_cosine_min,
            "neighbours_at_10": self.neighbours_at_10,
        }
        label = "agreement with the teacher"
        fields = {f: f"verify.{f}" if f.startswith("neighbours") else f"verify.teacher_{f}" for f in bars}
        return [Check(name, label, f, figures[f], b, field=fields[f]) for f, b in bars.items() if f in figures]

    def _invariance(self, name: str, encoder: "OnnxEncoder", texts: Sequence[str]) -> list[Check]:
        from compressor.models.agreement import cosines
        from exporters.graph.files import load
        from exporters.precision.calibrate import dynamic_inputs
        from exporters.verify.parity import invariance

        bars = [_UNCHANGED, _UNCHANGED]
        fields: list[str | None] = [None, None]
        if name != "fp32":
            fields = ["verify.padding_cosine_min", "verify.batch_cosine_min"]
            usual = _RANGES_A_BATCH if dynamic_inputs(load(encoder.folder / GRAPH)) else bars
            stated = (self.padding_cosine_min, self.batch_cosine_min)
            bars = [own if bar is None else bar for bar, own in zip(stated, usual, strict=True)]
        alone, padded, batched = invariance(encoder, texts)
        return [
            Check(
                name, "padding invariance", "cosine_min", float(cosines(alone, padded).min()), bars[0], field=fields[0]
            ),
            Check(
                name, "batch invariance", "cosine_min", float(cosines(alone, batched).min()), bars[1], field=fields[1]
            ),
        ]

    def _folder(self, name: str, encoder: "OnnxEncoder", model: Any) -> list[Check]:
        """Judge what stands beside the graph: the tokenizer, and the pooling that some consumers do themselves."""
        from compressor.models.agreement import cosines
        from exporters.graph.static import as_transformer
        from exporters.verify.folder import by_modules, computable, other_tokens

        label, texts = "folder as consumers read it", computable(encoder)
        mismatches = float(len(other_tokens(encoder, as_transformer(model))))
        cosine = float(cosines(by_modules(encoder, texts), encoder.encode(texts, batch_size=1)).min())
        # The folder's Dense stays in fp32.
        bar, field = (_UNCHANGED, None) if name == "fp32" else (self.int8_cosine_mean, "verify.int8_cosine_mean")
        return [
            Check(name, label, "texts_of_other_tokens", mismatches, 0, "<="),
            Check(name, label, "pooled_cosine_min", cosine, bar, field=field),
        ]


def operator_checks(name: str, folder: Path, config: Any, fused: Fused) -> list[Check]:
    """Check what ONNX Runtime runs of an artifact: each layer's fusions, and in int8 its integer products.

    In int8 every product of the fp32 graph must run in integers, but those that follow the pooling or that a search
    kept in fp32.
    """
    from exporters.precision.products import integer_products

    checks = _fusions(name, folder / GRAPH, config, fused) if fused and config.num_hidden_layers else []
    if name == "int8" and not config.num_hidden_layers:
        share = int8_share(folder / GRAPH)
        checks.append(Check(name, "weights as stored", "int8_share", share, 0.5))
    elif name == "int8":
        run, products = integer_products(folder / GRAPH)
        expected = max(products - _kept_products(folder), 1)
        checks.append(Check(name, "operators as run", "integer_products", float(run), float(expected)))
    return checks


def write_checks(checks: Sequence[Mapping[str, Any]], draft: Draft) -> None:
    """Write ``checks.json``; GateError at once where a figure is no number, which JSON cannot hold."""
    if not all(isfinite(check["value"]) for check in checks):
        gate(checks)
    write_json(draft.folder / "checks.json", checks)


def _fusions(name: str, graph: Path, config: Any, fused: Fused) -> list[Check]:
    from exporters.graph.files import as_run, operators
    from exporters.precision.products import attentions_written_out

    model, layers = as_run(graph), float(config.num_hidden_layers)
    counts = operators(model)
    fuses = config.model_type in _FUSED and getattr(config, "position_embedding_type", "absolute") == "absolute"
    bar = layers if fuses or fused is True else None
    attention = _count(counts, _ATTENTION) + attentions_written_out(model)
    label, field = "fusions as run", "verify.fused"
    return [
        Check(name, label, "attention", attention, bar, field=field),
        Check(name, label, "gelu", _count(counts, _GELU), bar if _has_gelu(config) else None, field=field),
    ]


def _kept_products(folder: Path) -> int:
    """Return how many products the search that made an artifact kept in fp32."""
    from compressor.artifact.folder import is_artifact, read_manifest

    choice = read_manifest(folder)["figures"].get("choice") if is_artifact(folder) else None
    return int(choice.get("kept_products", 0)) if isinstance(choice, dict) else 0


def gate(checks: Sequence[Mapping[str, Any]]) -> None:
    """Raise GateError, naming figure and bar, for the first check (``Check.as_dict``) that missed its bar."""
    for check in checks:
        if not check["passed"]:
            result = f"{check['check']}: {check['figure']} = {check['value']:.6g}"
            field = f"; the bar is {check['field']}" if check.get("field") else ""
            raise GateError(
                f"verify {check['artifact']}: {result}, must be {check['direction']} {check['bar']:g}{field}"
            )


def int8_share(graph: Path) -> float:
    """Return the share of a graph's stored numbers that are int8: all of a static model's but scales and Dense."""
    from onnx import TensorProto

    from exporters.graph.files import load

    stored = load(graph).graph.initializer
    sizes = {tensor.name: prod(tensor.dims) for tensor in stored}
    small = sum(sizes[tensor.name] for tensor in stored if tensor.data_type == TensorProto.INT8)
    return small / max(sum(sizes.values()), 1)


def _has_gelu(config: Any) -> bool:
    names = ("hidden_act", "activation", "hidden_activation", "feed_forward_proj")
    return any("gelu" in str(getattr(config, name, "")) for name in names)


def _count(counts: Mapping[str, int], kinds: Sequence[str]) -> float:
    return float(sum(counts.get(kind, 0) for kind in kinds))
