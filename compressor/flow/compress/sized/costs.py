"""What a student's parts cost in agreement with its teacher, and how fast they make it, from figures of one model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from compressor.flow.compress.sized.shape import Shape

if TYPE_CHECKING:
    from compressor.distil.student.words.usage import Usage
    from compressor.flow.compress.outlook import Outlook

Measured = Sequence[tuple[float, float]]

# Shares of what all-MiniLM-L6-v2 has, and hundredths of mean cosine to it that are lost there. docs/small.md says which
# were measured after a training, which before one, and which are assumed.
STATIC = 15.1
"""Of a student without layers: its 11.5 of cosine lose more similarity and search than as many with layers do, so it
counts as what its STS is worth, on the line through one and two layers."""
LAYERS: Measured = ((1 / 6, 12.6), (1 / 3, 7.2), (1 / 2, 5.7), (2 / 3, 4.3), (5 / 6, 2.7), (1, 0.0))
FEED_FORWARD: Measured = ((1 / 8, 5.8), (1 / 4, 2.9), (1 / 2, 0.8), (1, 0.0))
COLUMNS: Measured = ((1 / 6, 5.3), (1 / 3, 1.35), (1 / 2, 0.6), (2 / 3, 0.3), (1, 0.0))
SPELT: Measured = ((0, 0.0), (0.0023, 0.3), (0.019, 0.9), (0.04, 1.6), (0.123, 5.0))
"""Of the texts' tokens, those that are spelt in pieces."""
BITS = {8: 0.0, 4: 0.1}
STATIC_SPEED = 84.9
SPEEDS: Measured = ((1 / 9, 29.5), (2 / 9, 18.3), (1 / 3, 13.3), (1, 4.9))
"""Shares of the work of the teacher's layers on a token, and throughput as a multiple of the teacher's."""


def lost(outlook: "Outlook", shape: Shape, usage: "Usage | None") -> dict[str, float]:
    """Return what is expected to be lost by each part, in hundredths of mean cosine; they add up.

    ``usage`` says how much of the texts falls out of a vocabulary.
    """
    made = {"the table's bits": BITS[shape.bits]}
    if shape.layers is None:
        return made
    spelt = usage.share(shape.vocabulary) if usage is not None and shape.vocabulary else 0.0
    return made | {
        "layers": _at(LAYERS, shape.layers / outlook.depth) if shape.layers else STATIC,
        "feed-forward": _at(FEED_FORWARD, _share(shape.feed_forward, outlook.feed_forward)),
        "the table's columns": _at(COLUMNS, _share(shape.embedding_size, outlook.hidden)),
        "words in pieces": _at(SPELT, spelt),
    }


def work(outlook: "Outlook", shape: Shape) -> float:
    """Return the share of the work of the teacher's layers on a token that is left."""
    hidden, neurons = outlook.hidden, shape.feed_forward or outlook.feed_forward
    layers = outlook.depth if shape.layers is None else shape.layers
    rows = 3 if outlook.gated else 2  # that a neuron takes of products
    whole = outlook.depth * (4 * hidden + rows * outlook.feed_forward)
    return layers * (4 * hidden + rows * neurons) / whole if whole else 1.0


def speed(outlook: "Outlook", shape: Shape) -> float:
    """Return about how many times the teacher's throughput an int8 artifact has."""
    if shape.layers == 0:
        return STATIC_SPEED
    shares, ratios = zip(*SPEEDS, strict=True)
    return float(np.exp(np.interp(np.log(work(outlook, shape)), np.log(shares), np.log(ratios))))


def _share(kept: int | None, whole: int) -> float:
    """Return the share that is kept; all where nothing says otherwise, of models whose ``whole`` is not known, too."""
    return 1.0 if kept is None else kept / whole


def _at(measured: Measured, share: float) -> float:
    shares, values = zip(*measured, strict=True)
    return float(np.interp(share, shares, values))
