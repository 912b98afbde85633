"""The parts of an encoder's layers, and what their build lets a student change."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, LayerNorm, Linear

from compressor.core.errors import ModelError


@dataclass(frozen=True)
class Block:
    """The parts of one layer. ``attention`` is the module that holds query, key and value."""

    layer: Any
    attention: Any
    reads: tuple[Linear, ...]
    """Query, key and value, or one product of all three."""
    out: Linear
    feeds: tuple[Linear, ...]
    """What the feed-forward reads by: one product; two where one is a gate on the other, or both as one."""
    down: Linear
    norms: tuple[Any, ...]
    """Behind attention and behind the feed-forward; of layers that normalize first, the one in front of the latter."""

    @property
    def neurons(self) -> int:
        """Count the neurons of the feed-forward."""
        return self.down.in_features

    def feed_rows(self, feed: Linear, neurons: Tensor) -> Tensor:
        """Return the rows of ``feed`` that make these ``neurons``, int64; with a gate as one product, two of each."""
        starts = range(0, feed.out_features, self.neurons)
        return torch.cat([neurons.cpu() + start for start in starts]).to(feed.weight.device)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the linear and normalizing modules by name: ``reads.0``, ``out``, ``feeds.0``, ``norms.0``."""
        several = {"reads": self.reads, "feeds": self.feeds, "norms": self.norms}
        named = {f"{name}.{i}": part for name, parts in several.items() for i, part in enumerate(parts)}
        return {**named, "out": self.out, "down": self.down}


@dataclass(frozen=True)
class Parts:
    """The parts of an encoder, and why some of them must stay as they are; empty where they need not."""

    kind: str
    width: int
    blocks: list[Block]
    head_size: int
    ending: Any | None
    """The norm behind all layers, of layers that normalize what they read; None: they normalize what they end with."""
    tables: list[Embedding] = field(default_factory=list)
    """What is summed to the embeddings; of an encoder whose width can be changed, as what follows."""
    norm: LayerNorm | None = None
    """Of the embeddings."""
    widening: Linear | None = None
    """From embeddings of another width to the states (ELECTRA)."""
    biases: list[Embedding] = field(default_factory=list)
    """What all layers add to their heads' scores by how far apart two tokens are, [distances, heads]."""
    relative: bool = False
    """Queries and keys read how far apart two tokens are, too (DeBERTa)."""
    rotary: bool = False
    """Queries and keys are turned by their positions, which wants heads of the teacher's size."""
    unnarrowed: str = ""
    """Why the states cannot be narrower."""
    unheaded: str = ""
    """Why there cannot be fewer heads."""

    def heads(self, index: int) -> int:
        """Return how many heads layer ``index`` has."""
        return self.blocks[index].out.in_features // self.head_size

    def check_heads(self, width: int | None, heads: int | None) -> None:
        """Raise ModelError for another width or number of heads where they must stay."""
        wanted = (("width", width, self.width, self.unnarrowed), ("heads", heads, self.heads(0), self.unheaded))
        for name, value, own, reason in wanted:
            if reason and value not in (None, own):
                raise ModelError(f"{reason}: {name} = {value} must be left out")

    def head_counts(self, width: int) -> list[int]:
        """Return the numbers of heads that a layer of ``width`` units can have, as allowed by its positions."""
        most = self.heads(0)
        sizes = {n: width // n for n in range(1, most + 1) if width % n == 0 and width // n <= self.head_size}
        if self.rotary:
            return [n for n, size in sizes.items() if size == self.head_size]
        return [n for n in sizes if n == most or not self.unheaded]


@contextmanager
def watching(modules: dict[str, torch.nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Keep the first input and output of each module, by name, while the context is open."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.setdefault(name, (inputs[0], output))

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
