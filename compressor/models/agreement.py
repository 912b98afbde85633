"""How far two sets of vectors of the same texts say the same thing."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.core.encoder import Vectors
from compressor.core.errors import ModelError, TextError
from compressor.models.projection import Projection

Floats = NDArray[np.float32]
_ALIKE = 1e-5
"""Share of the largest component by which vectors differ at most where only rounding tells them apart."""


def check_vectors(vectors: Vectors, label: str) -> None:
    """Raise ModelError, under ``label``, for vectors of several texts that are not numbers, or all the same.

    No figure of quality can be taken of them: correlations are NaN, and neighbours are noise.
    """
    if not np.isfinite(vectors).all():
        raise ModelError(f"{label}: vectors hold NaN or infinity; its weights are damaged or too large")
    if len(vectors) > 1 and np.ptp(vectors, axis=0).max() <= _ALIKE * np.abs(vectors).max():
        raise ModelError(f"{label}: gives all of {len(vectors)} texts one vector; nothing can be told apart by it")


def normalized(vectors: Floats) -> Floats:
    """Return the rows at length 1; a zero row stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def cosines(left: Vectors, right: Vectors) -> Floats:
    """Return the cosine of each row of ``left`` with the same row of ``right``, float32 [n]."""
    return np.einsum("nd,nd->n", normalized(left), normalized(right))


def neighbours_in_common(left: Vectors, right: Vectors, k: int = 10) -> float:
    """Return the mean share of a text's ``k`` nearest texts that are the same in both spaces, 0 to 1.

    The spaces may differ in dimension. Raises TextError for fewer than ``k + 1`` texts.
    """
    if len(left) <= k:
        raise TextError(f"{len(left)} texts are too few to compare {k} neighbours of each; at least {k + 1} are needed")
    near_left, near_right = _nearest(left, k), _nearest(right, k)
    shared = [len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(near_left, near_right, strict=True)]
    return float(np.mean(shared)) / k


def _nearest(vectors: Vectors, k: int) -> NDArray[np.intp]:
    unit = normalized(vectors)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, k, axis=1)[:, :k]


@dataclass(frozen=True)
class Heldout:
    """Texts kept out of training and the teacher's vectors of them, float32 [n, width], to measure agreement on.

    Some are kept to choose settings by (``dev``), others for the figures that are reported (``heldout``).
    """

    texts: list[str]
    teacher: Vectors

    def agreement(self, vectors: Vectors, projection: Projection | None = None) -> dict[str, float]:
        """Return cosine mean, 1st percentile, minimum, and neighbours in common at 10, with the teacher.

        ``vectors``, float32 [n, dim], are of the same texts. In another space without a projection, only the neighbours
        are given.
        """
        cosine = self.cosines(vectors, projection)
        figures = {}
        if cosine is not None:
            figures = {
                "cosine_mean": float(cosine.mean()),
                "cosine_p1": float(np.percentile(cosine, 1)),
                "cosine_min": float(cosine.min()),
            }
        return figures | {"neighbours_at_10": neighbours_in_common(self.teacher, vectors, 10)}

    def cosines(self, vectors: Vectors, projection: Projection | None = None) -> Floats | None:
        """Return the cosine of each text's vector with the teacher's, float32 [n]; None where the spaces are others.

        Reduced vectors are lifted into the teacher's space by the pseudo-inverse of ``projection``; where that is not
        steady, the teacher's are reduced instead.
        """
        lifted, teacher = vectors, self.teacher
        if projection is not None:
            steady = projection.can_be_lifted
            lifted = projection.lift(vectors) if steady else vectors
            teacher = teacher - projection.mean if steady else projection.apply(teacher)
        return cosines(teacher, lifted) if lifted.shape == teacher.shape else None
