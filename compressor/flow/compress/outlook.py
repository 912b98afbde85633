"""What can be made of a model, from its folder alone: before any work."""

from dataclasses import dataclass
from typing import Any, Literal

from sentence_transformers import SentenceTransformer
from torch.nn import Embedding, Module

from benchmarks.report.numbers import count, millions, size
from compressor.core.strict_json import read_json
from compressor.distil.student.layers import find_layers
from compressor.distil.student.size import Possible
from compressor.distil.student.structure import is_gated
from compressor.flow.compress.sized.shape import Shape
from compressor.flow.compress.sized.weight import folder_bytes
from compressor.models.sentence_model import embedding_dimension, is_static, token_limit, transformer_of
from compressor.models.source import Source, transformer_folder
from exporters.graph.consumers import compact
from exporters.verify.check import fuses

_TABLE_ROWS = 1000  # as int8 has it: a smaller table stays in fp32
_POSITIONS = 256  # a table of at least so many rows is one of positions


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
    possible: Possible
    """What students it can have."""
    tokenizer_bytes: int
    positions: int = 0
    """Rows of tables that are no vocabularies: of positions."""
    gated: bool = False
    """A neuron of a feed-forward has a gate: it reads by two rows."""

    @classmethod
    def of(cls, source: Source, model: SentenceTransformer) -> "Outlook":
        """Look at an opened model."""
        dim, limit = embedding_dimension(model), token_limit(model)
        path = transformer_folder(source.folder) / "tokenizer.json"
        stored = len(compact(read_json(path)).encode()) if path.is_file() else 0
        if is_static(model):
            counts, vocabulary = _parameters(model, None), _rows(model)
            none = Possible(*["a static model has no layers"] * 6)
            return cls("static", 0, dim, 0, vocabulary, dim, limit, counts, False, none, stored)
        transformer = transformer_of(model)
        config, possible = transformer.config, Possible.of(transformer)
        return cls(
            family=str(config.model_type),
            depth=_number(config, "num_hidden_layers"),
            hidden=_number(config, "hidden_size"),
            feed_forward=_number(config, "intermediate_size", "hidden_dim", "d_ff"),
            vocabulary=_number(config, "vocab_size"),
            dim=dim,
            limit=limit,
            parameters=_parameters(model, None if possible.uncut else transformer),
            fuses=fuses(config),
            possible=possible,
            tokenizer_bytes=stored,
            positions=_positions(model),
            gated=not possible.unfitted and is_gated(transformer),
        )

    @property
    def total(self) -> int:
        """Count all numbers."""
        return self.parameters.table + self.depth * self.parameters.layer + self.parameters.rest

    def size_bytes(self, layers: int, precision: Literal["fp32", "int8"], dim: int | None, embeddings: int = 8) -> int:
        """Return about how large an artifact with so many whole layers is, its table in int8 of ``embeddings`` bits."""
        return folder_bytes(self, Shape(None if layers == self.depth else layers, bits=embeddings, dim=dim), precision)

    def lines(self) -> list[str]:
        """Say what the model is and what can be made of it, a line a matter."""
        read = "texts of any length" if self.limit is None else f"texts to {count(self.limit)} tokens"
        neurons = f", feed-forward {self.feed_forward}" if self.feed_forward else ""  # some configs do not say
        layers = f"{self.depth} layers of {self.hidden} units{neurons}"
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
        if self.possible.uncut:
            return f"none: {self.possible.uncut}"
        if self.possible.unfitted:
            return f"whole layers, copied and trained; not fitted, narrowed or pruned: {self.possible.unfitted}"
        relu = "ReLU" if not self.possible.no_relu else f"no ReLU ({self.possible.no_relu})"
        return f"any depth, fitted before it is trained; fewer {self._less()}; {relu}"

    def _less(self) -> str:
        if self.possible.unnarrowed:
            return "neurons of its feed-forward"
        return "units and feed-forward" if self.possible.unheaded else "units, heads and feed-forward"

    def _int8(self) -> str:
        sizes = (size(self.size_bytes(self.depth, name, None)) for name in ("fp32", "int8"))
        form = "weights a channel, ranges calibrated on your texts" if self.depth else "the table a row"
        return f"{form}; all layers: about {' in fp32, '.join(sizes)} in int8"


def _number(config: Any, *names: str) -> int:
    return next((int(value) for name in names if isinstance(value := getattr(config, name, None), int)), 0)


def _parameters(model: SentenceTransformer, transformer: Any) -> Parameters:
    """Count a model's numbers, without a pooler, which no graph holds; ``transformer``: None without a stack to cut."""
    owned = {id(p): p.numel() for name, p in model.named_parameters() if "pooler" not in name.split(".")}
    tables = [m for m in model.modules() if isinstance(m, Embedding) and m.num_embeddings >= _TABLE_ROWS]
    table = sum({id(m.weight): m.weight.numel() for m in tables}.values())
    stack: list[Module] = [] if transformer is None else list(find_layers(transformer)[2])
    layer = sum(map(_count, stack)) // max(len(stack), 1)
    return Parameters(table, layer, sum(owned.values()) - table - len(stack) * layer)


def _positions(model: SentenceTransformer) -> int:
    """Count the rows of the tables that say where a token stands."""
    tables = {id(m.weight): m.num_embeddings for m in model.modules() if isinstance(m, Embedding)}
    return sum(rows for rows in tables.values() if _POSITIONS <= rows < _TABLE_ROWS)


def _rows(model: SentenceTransformer) -> int:
    table: Any = model[0].embedding
    return int(table.num_embeddings)


def _count(module: Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
