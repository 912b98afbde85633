"""How near the teacher's vectors an artifact's come, by the length of a text."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from compressor.core.encoder import Vectors

_LENGTHS = (32, 64, 128, 256)
_LEAST_TEXTS = 20  # the mean of fewer says little


def means_by_length(cosines: Vectors, tokens: Sequence[int], limit: int) -> dict[int, float]:
    """Return mean cosines by the most tokens of a text they are of: 32, 64, 128, 256 and the model's ``limit``.

    ``cosines``, float32 [n], are of texts of so many ``tokens`` as the model reads. Lengths of fewer than 20 texts are
    left out.
    """
    counts = np.asarray(tokens)
    means = {}
    for least, most in pairwise([-1, *(length for length in _LENGTHS if length < limit), limit]):
        own = cosines[(counts > least) & (counts <= most)]
        if len(own) >= _LEAST_TEXTS:
            means[most] = float(own.mean())
    return means


def largest_gap(means: Mapping[int, float]) -> float:
    """Return how much lower the mean of longer texts is at most than that of the shortest; below 0: higher."""
    shortest, *longer = means.values()
    return float(np.max(shortest - np.array(longer)))  # not max(): it would pass over a NaN
