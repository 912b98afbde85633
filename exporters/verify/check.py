"""What a gate is made of: figures against their bars, of both artifacts, written down and judged in one way."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from compressor.artifact.folder import Draft, is_artifact, write_json
from compressor.artifact.layout import GRAPH
from compressor.artifact.manifest import MANIFEST, own_manifest
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, GateError
from compressor.core.strict_json import JsonObject
from exporters.runtime.names import CPU

# The runtimes are imported where they measure: `compressor verify ARTIFACT` needs none of them.

Cosine = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Fused = bool | Literal["auto"]
_ANY_DIFFERENCE = 1.0  # of two components of unit vectors: unrelated models are nearer
_STORED_INT8 = 0.5  # share of a static model's numbers, at least
ATTENTION = ("Attention", "MultiHeadAttention", "PackedAttention", "QAttention")
GELU = ("BiasGelu", "FastGelu", "Gelu", "QuickGelu")
_FUSED = {
    "albert", "bert", "camembert", "data2vec-text", "distilbert", "electra", "ernie", "eurobert", "gte", "modernbert",
    "mpnet", "nomic_bert", "roberta", "roberta-prelayernorm", "t5", "xlm-roberta", "xlm-roberta-xl",
}  # fmt: skip
"""Families whose attention and Gelu are fused in every layer, by ONNX Runtime's optimiser or by graph.attention."""


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

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return asdict(self) | {"passed": self.passed, "off": self.off}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote, in this release or an earlier one: whether it passed follows from the figure."""
        return cls(**{known.name: stated[known.name] for known in fields(cls) if known.name in stated})


class Verifying(Config):
    """Bars that the artifacts must clear; each task has its own, and an ``examine`` that holds one artifact to them."""

    fused: Fused = "auto"
    """Every layer's attention and Gelu must run as one fused operator each: ``auto`` where they are known to
    be: in BERT, RoBERTa, XLM-R, DistilBERT, ELECTRA, ALBERT, MPNet, T5, ModernBERT, NomicBERT, GTE, EuroBERT."""
    providers: Annotated[tuple[str, ...], Field(min_length=1)] = (CPU,)
    """ONNX Runtime execution providers that the artifacts are judged on, each by the same bars, options behind the name
    (``OpenVINOExecutionProvider:NUM_STREAMS=2``). What one has no kernels for runs on the CPU provider behind it, and
    is counted; one that is told to compute in fewer bits has fp32 judged as int8 is."""

    def check_both(self, fp32: Path, int8: Path, examine: Callable[[str, Path], Sequence[Check]], draft: Draft) -> None:
        """Examine both artifacts and write ``checks.json`` into ``draft``; ``gate`` judges it."""
        artifacts = {"fp32": fp32, "int8": int8}
        checks = [check for name, folder in artifacts.items() for check in examine(name, folder)]
        write_checks(checks, draft)


def is_exact(name: str, opened: Any) -> bool:
    """Tell whether an open artifact ("fp32" or "int8") computes fp32 in full, and is held to that."""
    from exporters.runtime.asked import Asked

    return name == "fp32" and not Asked.of(opened.providers[0]).reduced and not opened.running.bf16_products


def on_provider(name: str, opened: Any, checks: Iterable[Check]) -> list[Check]:
    """Return the checks of an open artifact, said to be of its provider, with the nodes that run on the CPU provider.

    As they are, where its provider is that.
    """
    from exporters.runtime.placed import nodes

    provider, found = opened.providers[0], opened.placed
    if provider == CPU:
        return list(checks)
    counted = [] if found is None else [("nodes", nodes(found)), ("nodes_on_cpu_provider", nodes(found, CPU))]
    stated = [Check(name, f"{provider}: placed", figure, float(count)) for figure, count in counted]
    return [*(replace(check, check=f"{provider}: {check.check}") for check in checks), *stated]


def operator_checks(name: str, folder: Path, config: Any, fused: Fused) -> list[Check]:
    """Check what ONNX Runtime runs of an artifact: each layer's fusions, and in int8 its integer products.

    In int8 every product of the fp32 graph must run in integers, but those that follow the pooling or that a search
    kept in fp32.
    """
    from exporters.precision.products import integer_products

    checks = _fusions(name, folder / GRAPH, config, fused) if fused and config.num_hidden_layers else []
    if name == "int8" and not config.num_hidden_layers:
        share = int8_share(folder / GRAPH)
        checks.append(Check(name, "weights as stored", "int8_share", share, _STORED_INT8))
    elif name == "int8":
        run, products = integer_products(folder / GRAPH)
        expected = max(products - _kept_products(folder), 1)
        checks.append(Check(name, "operators as run", "integer_products", float(run), float(expected)))
    return checks


def write_checks(checks: Sequence[Check], draft: Draft) -> None:
    """Write ``checks.json``; GateError at once where a figure is no number, which JSON cannot hold."""
    if not all(isfinite(check.value) for check in checks):
        gate(checks)
    write_json(draft.folder / "checks.json", [check.as_dict() for check in checks])


def fuses(config: Any) -> bool:
    """Tell whether every layer of a transformer's config is fused: what ``auto`` asks for."""
    absolute = getattr(config, "position_embedding_type", "absolute") == "absolute"
    return bool(config.model_type in _FUSED and absolute)


def _fusions(name: str, graph: Path, config: Any, fused: Fused) -> list[Check]:
    from exporters.graph.files import as_run, operators
    from exporters.precision.products import attentions_written_out

    model, layers = as_run(graph), float(config.num_hidden_layers)
    counts = operators(model)
    bar = layers if fuses(config) or fused is True else None
    # What stands in two forms, one in each branch, is one attention.
    attention = _count(Counter(node.op_type for node in model.graph.node), ATTENTION) + attentions_written_out(model)
    label, field = "fusions as run", "verify.fused"
    return [
        Check(name, label, "attention", attention, bar, field=field),
        Check(name, label, "gelu", _count(counts, GELU), bar if _has_gelu(config) else None, field=field),
    ]


def _kept_products(folder: Path) -> int:
    """Return how many products the search that made an artifact kept in fp32."""
    choice = own_manifest(folder)["figures"].get("choice") if is_artifact(folder) else None
    kept = choice.get("kept_products", 0) if isinstance(choice, dict) else 0
    if type(kept) is not int or kept < 0:
        raise ArtifactError(
            f"{folder / MANIFEST}: figures.choice.kept_products = {kept!a:.40}: must be a whole number from 0"
        )
    return kept


def gate(checks: Iterable[Check]) -> None:
    """Raise GateError, naming figure and bar, for the first check that missed its bar."""
    for check in checks:
        if not check.passed:
            result = f"{check.check}: {check.figure} = {check.value:.6g}"
            field = f"; the bar is {check.field or 'fixed'}"
            raise GateError(f"verify {check.artifact}: {result}, must be {check.direction} {check.bar:g}{field}")


def precision_of(folder: Path) -> Literal["fp32", "int8"]:
    """Return what an artifact is judged as: int8 where it multiplies integers or, a static one, mostly stores them."""
    from exporters.graph.files import multiplies_int8

    graph = folder / GRAPH
    return "int8" if multiplies_int8(graph) or int8_share(graph) >= _STORED_INT8 else "fp32"


def int8_share(graph: Path) -> float:
    """Return the share of a graph's stored numbers that are int8 or 4 bits: all of a static model's but its scales."""
    from onnx import TensorProto

    from exporters.graph.files import load, numbers

    model = load(graph)
    return numbers(model, (TensorProto.INT8, TensorProto.UINT8)) / max(numbers(model), 1)


def _has_gelu(config: Any) -> bool:
    names = ("hidden_act", "activation", "hidden_activation", "feed_forward_proj")
    return any("gelu" in str(getattr(config, name, "")) for name in names)


def _count(counts: Mapping[str, int], kinds: Sequence[str]) -> float:
    return float(sum(counts.get(kind, 0) for kind in kinds))
