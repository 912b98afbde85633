"""Structured pruning: leave out the heads and feed-forward neurons that matter least to the vectors."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import Linear, Parameter

from compressor.core.encoder import Vectors
from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.importance import importance, largest
from compressor.distil.student.parts import Block, Parts
from compressor.distil.student.structure import find_parts
from compressor.models.sentence_model import transformer_of

_FEED_FORWARD = ("intermediate_size", "hidden_dim", "d_ff")
"""What a config calls the width of the feed-forward, by family."""


def prune(
    student: SentenceTransformer,
    texts: Sequence[str],
    *,
    heads: int | None = None,
    feed_forward: int | None = None,
    targets: Vectors | None = None,
) -> SentenceTransformer:
    """Return a copy with the ``heads`` heads and ``feed_forward`` neurons of each layer that matter most.

    What matters is measured on a sample of ``texts`` by ``importance``; ``targets`` are the teacher's vectors of
    the texts, float [texts, dim], none: the student's own. The config states the new feed-forward. It cannot state
    fewer heads of the same size, so a head left out stays as zeros, which load everywhere; ``compact`` takes them
    out of a loaded model. Raises RecipeError for a number that the student does not have, ModelError for a
    family whose parts are not known.
    """
    parts = find_parts(transformer_of(student))
    check_pruned(parts, heads, feed_forward)
    costs = importance(student, texts, targets)
    pruned = copy.deepcopy(student)
    parts = find_parts(transformer_of(pruned))
    with torch.no_grad():
        for index, block in enumerate(parts.blocks):
            if heads is not None:
                _zero_heads(block, parts.head_size, _order(costs.heads[index])[heads:])
            if feed_forward is not None:
                narrow_feed_forward(block, largest(costs.neurons[index], feed_forward))
    if feed_forward is not None:
        state_feed_forward(transformer_of(pruned).config, feed_forward)
    return pruned


def check_pruned(parts: Parts, heads: int | None, feed_forward: int | None) -> None:
    """Raise RecipeError for a number that the layers do not have, ModelError for heads that must stay."""
    parts.check_heads(None, heads)
    _check("heads", heads, min(parts.heads(i) for i in range(len(parts.blocks))))
    _check("feed_forward", feed_forward, min(block.neurons for block in parts.blocks))


def compact(model: SentenceTransformer) -> int:
    """Take the heads that are zeros out of the layers of ``model``, in place; return how many there were.

    The vectors stay the same. Such a model is for running and export: a config can no longer describe it.
    A layer keeps at least one head. An encoder of another structure has no pruned heads, and 0 is returned.
    """
    try:
        parts = find_parts(transformer_of(model))
    except ModelError:
        return 0
    if parts.unheaded:  # no heads of it are zeros
        return 0
    removed = 0
    for index, block in enumerate(parts.blocks):
        alive = [head for head in range(parts.heads(index)) if not _is_zero(block, parts, head)] or [0]
        if len(alive) < parts.heads(index):
            removed += parts.heads(index) - len(alive)
            _keep_heads(block, parts.head_size, alive)
    return removed


def freeze_pruned(model: SentenceTransformer) -> int:
    """Keep the pruned heads of ``model`` at zero through training; return how many there are.

    Their gradients are held at zero, so an optimizer without weight decay leaves them alone. The holds end with
    the model: nothing of them is saved.
    """
    parts, frozen = find_parts(transformer_of(model)), 0
    if parts.unheaded:
        return 0
    for index, block in enumerate(parts.blocks):
        zero = [head for head in range(parts.heads(index)) if _is_zero(block, parts, head)]
        if zero:
            rows = _rows(torch.tensor(zero), parts.head_size)
            for weight, dim in _of_heads(block):
                weight.register_hook(_without(rows, dim))
        frozen += len(zero)
    return frozen


def state_feed_forward(config: Any, width: int) -> None:
    """Write the width of the feed-forward into ``config``, under the name that the family has for it."""
    name = next((name for name in _FEED_FORWARD if hasattr(config, name)), None)
    if name is None:
        raise ModelError(f"{config.model_type}: its config does not state the width of the feed-forward")
    setattr(config, name, width)


def _check(field: str, value: int | None, most: int) -> None:
    if value is not None and not 1 <= value <= most:
        raise RecipeError(f"distil.{field} = {value}: must be 1 to {most}, what a layer of the student has")


def _order(costs: Tensor) -> Tensor:
    return costs.argsort(descending=True, stable=True)


def _rows(heads: Tensor, size: int) -> Tensor:
    """Return the rows of query, key and value, and columns of the output, that belong to ``heads``."""
    return (heads[:, None] * size + torch.arange(size)).flatten()


def _of_heads(block: Block) -> list[tuple[Tensor, int]]:
    """Return the parameters of a layer that are divided into heads, each with the dimension that is."""
    divided = [
        (parameter, 0) for part in block.reads for parameter in (part.weight, part.bias) if parameter is not None
    ]
    return [*divided, (block.out.weight, 1)]


def _zero_heads(block: Block, size: int, heads: Tensor) -> None:
    for parameter, dim in _of_heads(block):
        parameter.index_fill_(dim, _rows(heads, size).to(parameter.device), 0.0)


def _is_zero(block: Block, parts: Parts, head: int) -> bool:
    rows = _rows(torch.tensor([head]), parts.head_size)
    return all(not parameter.index_select(dim, rows.to(parameter.device)).any() for parameter, dim in _of_heads(block))


def _keep_heads(block: Block, size: int, heads: list[int]) -> None:
    rows = _rows(torch.tensor(heads), size)
    for part in block.reads:
        _slice(part, rows, 0)
    _slice(block.out, rows, 1)
    # What the attention of the families divides its states by; the size of a head stays.
    sizes = {"num_attention_heads": len(heads), "n_heads": len(heads), "all_head_size": len(rows), "dim": len(rows)}
    for name, value in sizes.items():
        if isinstance(getattr(block.attention, name, None), int):
            setattr(block.attention, name, value)


def narrow_feed_forward(block: Block, neurons: Tensor) -> None:
    """Keep some ``neurons``, int64, of a layer's feed-forward, each with its gate, in place."""
    for feed, rows in [(feed, block.feed_rows(feed, neurons)) for feed in block.feeds]:
        _slice(feed, rows, 0)
    _slice(block.down, neurons, 1)


def _slice(linear: Linear, kept: Tensor, dim: int) -> None:
    """Keep some rows (dim 0) or columns (dim 1) of a linear layer, in place."""
    kept = kept.to(linear.weight.device)
    linear.weight = Parameter(linear.weight.detach().index_select(dim, kept).clone())
    if dim == 0:
        linear.out_features = len(kept)
        if linear.bias is not None:
            linear.bias = Parameter(linear.bias.detach()[kept].clone())
    else:
        linear.in_features = len(kept)


def _without(rows: Tensor, dim: int) -> Any:
    def hook(gradient: Tensor) -> Tensor:
        return gradient.index_fill(dim, rows.to(gradient.device), 0.0)

    return hook
