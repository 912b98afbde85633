"""Bars that a working student clears and a broken one does not, from the teacher's own vectors of a few texts."""

from math import floor

import numpy as np

from compressor.core.encoder import Vectors
from compressor.models.agreement import Floats, cosines, neighbours_in_common
from compressor.vectors.pca import fit

NEIGHBOURS = 10
_WHOLE = (0.8, 0.5, 0.3)
"""Where all layers are kept: how far from chance to what can be reached the bars stand, of the mean cosine, of its 1st
percentile and of neighbours in common."""
_BEGUN, _LEARNT, _LEARNT_SECONDS = (0.1, 0.0, 0.03), (0.4, 0.0, 0.1), 300.0
"""Of a student: after hardly any training, and after so many seconds; between, in proportion. An honest student of a
few layers is beyond it, of the families that start from copied layers, too; one that learnt nothing, whose vectors have
nothing to do with their texts, stands at chance."""


def bars_of(vectors: Vectors, dim: int | None, trained: float | None, heldout: int) -> dict[str, float]:
    """Return the fields of ``verify`` on agreement with the teacher, for vectors of ``dim``, None: as long as they are.

    ``vectors``, float32 [n, width], are the teacher's of at least 24 texts; ``trained`` is how many seconds a student
    is, None for none. What can be reached: the same vectors, or their principal components, fitted on half of them.
    Chance: those of another text. With ``dim`` the mean may be taken off or not, which is chosen later: the lower bar
    stands.
    """
    spaces = [_reachable(vectors, dim, centred) for centred in ((False, True) if dim else (False,))]
    found = [_bars(teacher, reached, way_of(trained), heldout) for teacher, reached in spaces]
    return {name: _down(min(bars[name] for bars in found)) for name in found[0]}


def way_of(trained: float | None) -> tuple[float, float, float]:
    """Return how far from chance to what can be reached the bars stand after so many seconds of training."""
    if trained is None:
        return _WHOLE
    share = min(trained / _LEARNT_SECONDS, 1.0)
    mean, low, near = (a + (b - a) * share for a, b in zip(_BEGUN, _LEARNT, strict=True))
    return mean, low, near


def _reachable(vectors: Vectors, dim: int | None, centred: bool) -> tuple[Vectors, Vectors]:
    """Return the teacher's vectors, as they are judged, and the nearest that ``dim`` components can be."""
    if dim is None:
        return vectors, vectors
    half = len(vectors) // 2
    projection, judged = fit(vectors[:half], dim, centred), vectors[half:]
    return judged - projection.mean, projection.lift(projection.apply(judged))


def _bars(teacher: Vectors, reached: Vectors, way: tuple[float, float, float], heldout: int) -> dict[str, float]:
    best, chance = cosines(teacher, reached), cosines(teacher, np.roll(reached, 1, axis=0))
    mean, low, near = way
    return {
        "teacher_cosine_mean": _between(float(chance.mean()), float(best.mean()), mean),
        "teacher_cosine_p1": _between(_p1(chance), _p1(best), low),
        "teacher_cosine_min": float(chance.min()),
        "neighbours_at_10": _between(
            min(1.0, NEIGHBOURS / max(heldout - 1, 1)), neighbours_in_common(teacher, reached, NEIGHBOURS), near
        ),
    }


def _between(low: float, high: float, share: float) -> float:
    return low + share * max(high - low, 0.0)


def _p1(values: Floats) -> float:
    return float(np.percentile(values, 1))


def _down(value: float) -> float:
    """Round down to two decimals, within what a cosine may be."""
    return max(-1.0, floor(100 * min(value, 1.0)) / 100)
