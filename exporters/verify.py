"""The gate: what an artifact must keep of its student and its teacher before it is handed out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from compressor.agreement import Heldout, cosines
from compressor.artifact import Draft, write_json
from compressor.encoder import Vectors
from compressor.errors import GateError, ModelError
from compressor.projection import Projection
from compressor.recipe import Config
from exporters.layout import GRAPH

if TYPE_CHECKING:
    from exporters.session import OnnxEncoder

# PyTorch and the runtimes are imported where they measure: `compressor verify ARTIFACT` alone needs none of them.

Share = Annotated[float, Field(ge=-1, le=1)]
INTEGER_PRODUCTS = (
    "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QAttention", "QLinearMatMul",
)  # fmt: skip
_ATTENTION = ("Attention", "MultiHeadAttention", "QAttention")
_GELU = ("BiasGelu", "FastGelu", "Gelu")


@dataclass(frozen=True)
class Check:
    """One figure of an artifact against its bar; without a bar it is only stated."""

    artifact: str
    check: str
    figure: str
    value: float
    bar: float | None = None
    direction: Literal[">=", "<="] = ">="

    @property
    def passed(self) -> bool:
        if self.bar is None:
            return True
        # A NaN passes neither way.
        return self.value >= self.bar if self.direction == ">=" else self.value <= self.bar

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


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
    padding_cosine_min: Share = 0.98
    """int8: least cosine of a text's vector with the same text's, padded. fp32 must keep 0.99999."""
    batch_cosine_min: Share = 0.97
    """int8: least cosine of a text's vector alone with the same text's in a batch. fp32 must keep 0.99999."""
    fused: bool = True
    """Every layer's attention and Gelu must run as one fused operator each."""

    def run(self, fp32: Path, int8: Path, student: Path, heldout: Heldout, draft: Draft) -> None:
        """Examine both artifacts and write ``checks.json`` into ``draft``; ``gate`` judges it."""
        checks = [
            check.as_dict()
            for name, folder in (("fp32", fp32), ("int8", int8))
            for check in self.examine(name, folder, student, heldout)
        ]
        write_json(draft.folder / "checks.json", checks)

    def examine(self, name: str, folder: Path, student: Path, heldout: Heldout) -> list[Check]:
        """Measure the artifact in ``folder`` (``name`` is "fp32" or "int8") against its student and its teacher."""
        from compressor.sentence_model import embedding_dimension, open_model, transformer_of
        from exporters.session import OnnxEncoder
        from exporters.static import as_transformer

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
            *operator_checks(name, folder, transformer_of(as_transformer(model)).config, self.fused),
        ]

    def _student(
        self, name: str, encoder: "OnnxEncoder", model: Any, heldout: Sequence[str], vectors: Vectors
    ) -> list[Check]:
        from compressor.sentence_model import TorchEncoder
        from exporters.static import as_transformer

        own = TorchEncoder(model).encode(heldout, batch_size=64)
        if name == "fp32":
            worst = parity(encoder, as_transformer(model))
            return [
                Check(name, "parity with PyTorch", "max_difference", worst, self.parity, "<="),
                Check(name, "parity with PyTorch", "max_difference_of_texts", _worst(own, vectors), self.parity, "<="),
            ]
        cosine = cosines(own, vectors)
        return [
            Check(name, "parity with PyTorch", "cosine_mean", float(cosine.mean()), self.int8_cosine_mean),
            Check(name, "parity with PyTorch", "cosine_min", float(cosine.min())),
        ]

    def _teacher(self, name: str, figures: Mapping[str, float]) -> list[Check]:
        bars = {
            "cosine_mean": self.teacher_cosine_mean,
            "cosine_p1": self.teacher_cosine_p1,
            "cosine_min": self.teacher_cosine_min,
            "neighbours_at_10": self.neighbours_at_10,
        }
        return [Check(name, "agreement with the teacher", f, figures[f], b) for f, b in bars.items() if f in figures]

    def _invariance(self, name: str, encoder: "OnnxEncoder", texts: Sequence[str]) -> list[Check]:
        bars = (0.99999, 0.99999) if name == "fp32" else (self.padding_cosine_min, self.batch_cosine_min)
        alone, padded, batched = invariance(encoder, texts)
        return [
            Check(name, "padding invariance", "cosine_min", float(cosines(alone, padded).min()), bars[0]),
            Check(name, "batch invariance", "cosine_min", float(cosines(alone, batched).min()), bars[1]),
        ]


def operator_checks(name: str, folder: Path, config: Any, fused: bool) -> list[Check]:
    """Check what ONNX Runtime runs of an artifact: each layer's fusions, and in int8 its integer products."""
    from exporters.graph import run_operators

    found = run_operators(folder / GRAPH)
    layers = float(config.num_hidden_layers)
    checks = []
    # Attention written out by the search: two fused products, with the mask and without.
    written_out = found.get("FusedMatMul", 0) / 4 if found.get("If") else 0.0
    if fused and layers:
        checks += [
            Check(name, "fusions as run", "attention", _count(found, _ATTENTION) + written_out, layers),
            Check(name, "fusions as run", "gelu", _count(found, _GELU), layers if _has_gelu(config) else None),
        ]
    if name == "int8" and not layers:
        share = int8_share(folder / GRAPH)
        checks.append(Check(name, "weights as stored", "int8_share", share, 0.5))
    elif name == "int8":
        # Attention's inner three products count as one; the output and two feed-forward ones follow.
        products = _count(found, INTEGER_PRODUCTS)
        checks.append(Check(name, "operators as run", "integer_products", products, 4 * layers))
    return checks


def gate(checks: Sequence[Mapping[str, Any]]) -> None:
    """Raise GateError, naming figure and bar, for the first check (``Check.as_dict``) that missed its bar."""
    for check in checks:
        if not check["passed"]:
            what = f"{check['check']}: {check['figure']} = {check['value']:.6g}"
            raise GateError(f"verify {check['artifact']}: {what}, must be {check['direction']} {check['bar']:g}")


def is_int8(operators: Mapping[str, int]) -> bool:
    """Whether a graph's operators, as run, multiply integers."""
    return _count(operators, INTEGER_PRODUCTS) > 0


def int8_share(graph: Path) -> float:
    """Return the share of a graph's stored numbers that are int8: all of a static model's but scales and Dense."""
    from onnx import TensorProto

    from exporters.graph import load

    stored = load(graph).graph.initializer
    sizes = {tensor.name: prod(tensor.dims) for tensor in stored}
    small = sum(sizes[tensor.name] for tensor in stored if tensor.data_type == TensorProto.INT8)
    return small / max(sum(sizes.values()), 1)


def parity(encoder: "OnnxEncoder", model: Any) -> float:
    """Return the largest difference of graph and PyTorch over batch sizes 1, 2, 7, 64 and all kinds of length.

    Lengths run from 1 token to the model's maximum, the rows of a batch padded to its longest.
    """
    import torch

    from exporters.onnx import Graph

    random = np.random.default_rng(0)
    graph = Graph(model).eval()
    longest = encoder.max_length
    worst = 0.0
    for batch, length in [
        (1, 1),
        (1, 2),
        (1, longest),
        (2, 3),
        (2, longest),
        (7, 17),
        (7, 64),
        (64, 33),
        (64, 1),
    ]:
        length = min(length, longest)
        ids = random.integers(1, graph.transformer.config.vocab_size, (batch, length), dtype=np.int64)
        mask = (np.arange(length) < random.integers(1, length + 1, (batch, 1))).astype(np.int64)
        mask[0] = 1
        tensors = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if "token_type_ids" in graph.names:
            tensors["token_type_ids"] = torch.zeros_like(tensors["input_ids"])
        with torch.inference_mode():
            expected = graph(*tensors.values())[1].numpy()
        # Not max(): it would pass over a NaN.
        worst = float(np.maximum(worst, _worst(expected, encoder.run_ids(ids, mask))))
    return worst


def _worst(expected: Vectors, got: Vectors) -> float:
    return float(np.abs(got - expected).max())


def invariance(encoder: "OnnxEncoder", texts: Sequence[str]) -> tuple[Vectors, Vectors, Vectors]:
    """Return the vectors of ``texts`` computed alone, alone with padding left in, and in one mixed batch of 32."""
    tokens = [one for one in encoder.tokenize(texts) if one]  # no token, no vector to compare
    alone = np.concatenate([encoder.run_ids(*encoder.pad([one])) for one in tokens])
    room = [min(16, encoder.max_length - len(one)) for one in tokens]
    padded = np.concatenate(
        [encoder.run_ids(*encoder.pad([one], extra)) for one, extra in zip(tokens, room, strict=True)]
    )
    batched = np.concatenate([encoder.run_ids(*encoder.pad(tokens[i : i + 32])) for i in range(0, len(tokens), 32)])
    return alone, padded, batched


def _has_gelu(config: Any) -> bool:
    names = ("hidden_act", "activation", "hidden_activation", "feed_forward_proj")
    return any("gelu" in str(getattr(config, name, "")) for name in names)


def _count(found: Mapping[str, int], kinds: Sequence[str]) -> float:
    return float(sum(found.get(kind, 0) for kind in kinds))
