"""What can be made of a model, from its folder alone: before any work."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

from sentence_transformers import SentenceTransformer
from torch.nn import Embedding, Module

from benchmarks.report.numbers import count, millions, size
from compressor.core.errors import CompressorError
from compressor.distil.student.activation import take_relu
from compressor.distil.student.layers import find_layers
from compressor.distil.student.structure import find_parts
from compressor.distil.training.embedding import Distil
from compressor.models.sentence_model import embedding_dimension, is_static, token_limit, transformer_of
from compressor.models.source import Source, transformer_folder
from exporters.verify.check import fuses

_TABLE_ROWS = 1000  # as int8 has it: a smaller table stays in fp32
_TOKENIZER = ("tokenizer.json", "vocab.txt")


@dataclass(frozen=True)
class Parameters:
    """Counts of numbers that a graph of the model holds."""

    table: int
    """In vocabularies that int8 stores as int8."""
    layer: int
    """In one layer."""
    rest: int
    """In positions, normalizations, Dense."""


@dataclass(frozen=True)
class Outlook:
    """What a model is, and what can be made of it; a reason is empty where nothing is in the way."""

    family: str
    depth: int
    hidden: int
    feed_forward: int
    vocabulary: int
    dim: int
    limit: int | None
    parameters: Parameters
    fuses: bool
    """Every layer's attention and Gelu run as one operator each."""
    uncut: str
    """Why no layers can be left out."""
    unfitted: str
    """Why a student cannot be fitted, and its feed-forward not be pruned."""
    unnarrowed: str
    """Why its states and heads cannot be fewer."""
    no_relu: str
    """Why its activation cannot be a ReLU."""
    tokenizer_bytes: int

    @classmethod
    def of(cls, source: Source, model: SentenceTransformer) -> "Outlook":
        """Look at an opened model."""
        dim, limit = embedding_dimension(model), token_limit(model)
        files = [transformer_folder(source.folder) / name for name in _TOKENIZER]
        stored = sum(path.stat().st_size for path in files if path.is_file())
        if is_static(model):
            counts, vocabulary = _parameters(model, None), _rows(model)
            none = "a static model has no layers"
            return cls("static", 0, dim, 0, vocabulary, dim, limit, counts, False, none, none, none, none, stored)
        transformer = transformer_of(model)
        config = transformer.config
        return cls(
            family=str(config.model_type),
            depth=_number(config, "num_hidden_layers"),
            hidden=_number(config, "hidden_size"),
            feed_forward=_number(config, "intermediate_size", "hidden_dim", "d_ff"),
            vocabulary=_number(config, "vocab_size"),
            dim=dim,
            limit=limit,
            parameters=_parameters(model, transformer),
            fuses=fuses(config),
            uncut=_reason(lambda: Distil(layers=1).check(model)),
            unfitted=_reason(lambda: find_parts(transformer)),
            unnarrowed=_reason(lambda: find_parts(transformer).check_heads(0, 0)),
            no_relu=_reason(lambda: take_relu(_copy(transformer))),
            tokenizer_bytes=stored,
        )

    @property
    def total(self) -> int:
        """Count all numbers."""
        return self.parameters.table + self.depth * self.parameters.layer + self.parameters.rest

    def size_bytes(self, layers: int, precision: Literal["fp32", "int8"], dim: int | None) -> int:
        """Return about how large an artifact with so many layers is."""
        own, small = self.parameters, 1 if precision == "int8" else 4
        if layers == 0 and self.depth:  # a static student: one vector a token
            return self.vocabulary * (dim or self.dim) * small + self.tokenizer_bytes
        projection = (dim or 0) * self.dim
        return (own.table + layers * own.layer) * small + 4 * (own.rest + projection) + self.tokenizer_bytes

    def lines(self) -> list[str]:
        """Say what the model is and what can be made of it, a line a matter."""
        read = "texts of any length" if self.limit is None else f"texts to {count(self.limit)} tokens"
        layers = f"{self.depth} layers of {self.hidden} units, feed-forward {self.feed_forward}"
        kind = f"{self.family}, {layers if self.depth else 'no layers'}"
        counts = f"{count(self.vocabulary)} tokens, {millions(self.total)} M numbers"
        return [
            f"model: {kind}, {counts}; vectors of {self.dim}, {read}",
            f"graph: {self._graph()}",
            f"student: {self._student()}",
            f"int8: {self._int8()}",
        ]

    def _graph(self) -> str:
        if not self.depth:
            return "look-ups and a mean"
        if self.fuses:
            return 'attention and Gelu of every layer fuse; verify.fused = "auto" holds the graph to it'
        return f'of {self.family}, fusions are counted and not asked for (verify.fused = "auto")'

    def _student(self) -> str:
        if self.uncut:
            return f"none: {self.uncut}"
        if self.unfitted:
            return f"whole layers, copied and trained; not fitted, narrowed or pruned: {self.unfitted}"
        relu = "ReLU" if not self.no_relu else f"no ReLU ({self.no_relu})"
        less = "fewer units, heads and feed-forward" if not self.unnarrowed else "fewer neurons of its feed-forward"
        return f"any depth, fitted before it is trained; {less}; {relu}"

    def _int8(self) -> str:
        sizes = (size(self.size_bytes(self.depth, name, None)) for name in ("fp32", "int8"))
        form = "weights a channel, ranges calibrated on your texts" if self.depth else "the table a row"
        return f"{form}; all layers: about {' in fp32, '.join(sizes)} in int8"


def _reason(asked: Callable[[], object]) -> str:
    """Return why something cannot be had; empty where it can."""
    try:
        asked()
    except CompressorError as error:
        return str(error)
    return ""


def _copy(transformer: Any) -> Any:
    """Return a copy with the same weights, not copied."""
    shared = {id(tensor): tensor for tensor in (*transformer.parameters(), *transformer.buffers())}
    return deepcopy(transformer, shared)


def _number(config: Any, *names: str) -> int:
    return next((int(value) for name in names if isinstance(value := getattr(config, name, None), int)), 0)


def _parameters(model: SentenceTransformer, transformer: Any) -> Parameters:
    """Count a model's numbers, without a pooler, which no graph holds."""
    owned = {id(p): p.numel() for name, p in model.named_parameters() if "pooler" not in name.split(".")}
    tables = [m for m in model.modules() if isinstance(m, Embedding) and m.num_embeddings >= _TABLE_ROWS]
    table = sum({id(m.weight): m.weight.numel() for m in tables}.values())
    layers = sum(owned.values()) - table
    depth = 0 if transformer is None else _number(transformer.config, "num_hidden_layers")
    layer = 0
    if transformer is not None and not _reason(lambda: find_layers(transformer)):
        stack = find_layers(transformer)[2]
        layer = sum(_count(one) for one in stack) // len(stack)
    return Parameters(table, layer, layers - depth * layer)


def _rows(model: SentenceTransformer) -> int:
    table: Any = model[0].embedding
    return int(table.num_embeddings)


def _count(module: Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
