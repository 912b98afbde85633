"""How much each head and each feed-forward neuron matters to the vectors."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from compressor.core.encoder import Vectors
from compressor.distil.student.parts import Parts
from compressor.distil.student.sample import Batch, sample_batches, vectors_of
from compressor.distil.student.structure import find_parts
from compressor.models.sentence_model import transformer_of

_TEXTS = 500
_PROBES = 4
"""Random directions a batch that the vectors' change is looked at in."""


@dataclass(frozen=True)
class Importance:
    """What leaving one out costs: float64 [heads] and [neurons] for each layer, in squared distance of vectors."""

    heads: list[Tensor]
    neurons: list[Tensor]


def importance(model: SentenceTransformer, texts: Sequence[str], targets: Vectors | None = None) -> Importance:
    """Return the cost, by Taylor expansion, of leaving out each head and neuron.

    The loss is the squared distance of the vectors to ``targets``, float [texts, dim]; the model's own if none.
    Its first-order term |dL/dm| of a mask m on the head or neuron is a text's (Michel et al. 2019,
    arXiv:1905.10650; Molchanov et al. 2019, arXiv:1906.10771). That term is zero where the loss is, as it is for a
    copy of the teacher, so the second is added in Gauss and Newton's form |dv/dm|^2, what the vectors themselves
    move, estimated by random directions (LeCun et al. 1989, Optimal Brain Damage).
    """
    model.eval()
    parts = find_parts(transformer_of(model))
    batches = sample_batches(model, texts, _TEXTS)
    masks = _Masks(parts)
    sums = [torch.zeros(size, dtype=torch.float64) for size in masks.sizes]
    directions = torch.Generator().manual_seed(0)
    with masks.on():
        for batch in batches:
            vectors = vectors_of(model, batch)
            for total, cost in zip(sums, _costs(vectors, masks.made, batch, targets, directions), strict=True):
                total += cost
    mean = [total / sum(len(batch.rows) for batch in batches) for total in sums]
    return Importance(mean[0::2], mean[1::2])


def largest(costs: Tensor, count: int) -> Tensor:
    """Return which ``count`` matter most, int64, ascending; of those that matter alike the first."""
    return costs.argsort(descending=True, stable=True)[:count].sort().values


def _costs(
    vectors: Tensor, masks: list[Tensor], batch: Batch, targets: Vectors | None, directions: torch.Generator
) -> Iterator[Tensor]:
    costs = [torch.zeros(mask.shape[1:], dtype=torch.float64) for mask in masks]

    def add(value: Tensor, measure: Callable[[Tensor], Tensor]) -> None:
        for total, gradient in zip(costs, torch.autograd.grad(value, masks, retain_graph=True), strict=True):
            total += measure(gradient.double().cpu()).sum(0)

    for _ in range(_PROBES):
        probe = torch.randn(vectors.shape, generator=directions).to(vectors.device)
        add((vectors * probe).sum(), lambda gradient: gradient.square() / _PROBES)
    if targets is not None:
        wanted = torch.as_tensor(targets[batch.rows]).to(vectors)
        add((vectors - wanted).square().sum(), torch.abs)
    return iter(costs)


class _Masks:
    """Ones, a text, that multiply each head's and each neuron's output while they are on."""

    def __init__(self, parts: Parts) -> None:
        self.sites: list[tuple[Any, int, int]] = []
        for index, block in enumerate(parts.blocks):
            self.sites.append((block.out, parts.heads(index), parts.head_size))
            self.sites.append((block.down, block.down.in_features, 1))
        self.sizes = [count for _, count, _ in self.sites]
        self.made: list[Tensor] = [torch.zeros(())] * len(self.sites)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Mask while the context is open; each forward pass makes its own masks."""
        hooks = [
            module.register_forward_pre_hook(self._multiply(site, count, size))
            for site, (module, count, size) in enumerate(self.sites)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _multiply(self, site: int, count: int, size: int) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            mask = torch.ones(len(inputs[0]), count, device=inputs[0].device, requires_grad=True)
            self.made[site] = mask
            return (inputs[0] * mask.repeat_interleave(size, dim=1)[:, None], *inputs[1:])

        return hook
