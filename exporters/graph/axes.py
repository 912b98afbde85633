"""Which axes of a tensor are texts and tokens: found by running its graph, never by a shape that may chance to fit."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[np.int64]]
"""A graph's inputs by name, int64 [texts, tokens]."""
Floats = NDArray[np.float32]
_TEXTS = (3, 5)  # of the two runs


@dataclass(frozen=True)
class Axes:
    """Where a tensor has its texts and tokens; None where it has none. Both on one axis: ``flat``."""

    texts: int | None = None
    tokens: int | None = None
    flat: int | None = None


def text_axes(run: Callable[[Feeds], Sequence[Floats]], batch: Feeds) -> list[Axes]:
    """Return the axes of each tensor that ``run`` gives, from two runs of other counts of texts and tokens.

    The texts are made of ``batch``, without padding.
    """
    longest = batch["attention_mask"].shape[1]
    shapes = [(_TEXTS[0], longest), (_TEXTS[1], max(longest - 1, 1))]
    first, second = ([tensor.shape for tensor in run(_filled(batch, *shape))] for shape in shapes)
    return [_axes(pair, shapes) for pair in zip(first, second, strict=True)]


def real_rows(values: Floats, mask: NDArray[np.bool_], axes: Axes) -> Floats:
    """Return what texts' own tokens have, float32 [rows, units], units the last axis; padding is left out.

    ``mask`` is [texts, tokens], true where a token is a text's. What has no tokens is returned whole.
    """
    if axes.flat is not None and values.shape[axes.flat] == mask.size:
        values = np.moveaxis(values, axes.flat, 0)[mask.ravel()]
    elif axes.texts is not None and axes.tokens is not None:
        moved = np.moveaxis(values, (axes.texts, axes.tokens), (0, 1))
        values = moved[mask] if moved.shape[:2] == mask.shape else values
    return values.reshape(-1, values.shape[-1] if values.ndim else 1)


def _filled(batch: Feeds, texts: int, tokens: int) -> Feeds:
    """Return as many texts of as many tokens, all of them real: rows of the batch, repeated."""
    real = batch["attention_mask"].astype(bool)

    def made(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.resize(values[real] if real.any() else values, (texts, tokens, *values.shape[2:]))

    return {name: made(values) for name, values in batch.items()} | {
        "attention_mask": np.ones((texts, tokens), batch["attention_mask"].dtype)
    }


def _axes(pair: tuple[tuple[int, ...], tuple[int, ...]], shapes: Sequence[tuple[int, int]]) -> Axes:
    """Return the axes whose sizes were the texts, and the tokens, of both runs."""
    if len(pair[0]) != len(pair[1]):
        return Axes()
    sizes = list(zip(*pair, strict=True))
    places = [_place(sizes, wanted) for wanted in zip(*shapes, strict=True)]
    flat = _place(sizes, (shapes[0][0] * shapes[0][1], shapes[1][0] * shapes[1][1]))
    return Axes(places[0], places[1], flat) if places[0] != places[1] else Axes(places[0], None, flat)


def _place(sizes: Sequence[tuple[int, ...]], wanted: tuple[int, ...]) -> int | None:
    return next((i for i, size in enumerate(sizes) if size == wanted), None)
