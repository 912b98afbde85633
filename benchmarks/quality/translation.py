"""Quality across languages: translations found by their vectors, similarity between languages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.sts import Sts
from compressor.artifact.folder import key_of
from compressor.core.encoder import Encoder
from compressor.core.errors import TextError
from compressor.models.agreement import normalized

_BLOCK = 1024


def matching(
    encoder: Encoder, sources: Sequence[str], translations: Sequence[str], batch_size: int = 64
) -> dict[str, float]:
    """Return the share of texts, 0 to 1, whose nearest neighbour by cosine is their own translation, both ways.

    As sentence-transformers' TranslationEvaluator counts: among all texts of the other side, the first of equals
    wins. Similarities are computed in blocks, so memory grows with the texts, not with their square. Raises
    TextError for sides of unequal length and for none.
    """
    if len(sources) != len(translations) or not len(sources):
        raise TextError(f"{len(sources)} sources, {len(translations)} translations; need as many of both, at least 1")
    left = normalized(encoder.encode(sources, batch_size))
    right = normalized(encoder.encode(translations, batch_size))
    return {
        "source_to_translation": _found(left, right),
        "translation_to_source": _found(right, left),
    }


def _found(queries: NDArray[np.float32], answers: NDArray[np.float32]) -> float:
    hits = 0
    for start in range(0, len(queries), _BLOCK):
        nearest = (queries[start : start + _BLOCK] @ answers.T).argmax(axis=1)
        hits += int((nearest == np.arange(start, start + len(nearest))).sum())
    return hits / len(queries)


@dataclass(frozen=True)
class CrossLingualSts:
    """Pairs of sentences in two languages: the same rows of two STS files."""

    left: Sts
    right: Sts

    @classmethod
    def read(cls, left: Path, right: Path) -> "CrossLingualSts":
        """Read two STS files of the same rows; TextError names the first row whose scores differ."""
        left_pairs, right_pairs = Sts.read(left), Sts.read(right)
        if len(left_pairs.scores) != len(right_pairs.scores):
            raise TextError(
                f"{right}: {len(right_pairs.scores)} pairs, {left} has {len(left_pairs.scores)}; rows must correspond"
            )
        for row, (a, b) in enumerate(zip(left_pairs.scores, right_pairs.scores, strict=True), start=1):
            if abs(a - b) > 0.01:  # copies are rounded
                raise TextError(f"{right}: row {row}: score {b:g}, {left} has {a:g}; rows must correspond")
        return cls(left_pairs, right_pairs)

    @property
    def name(self) -> str:
        return f"{self.left.name}+{self.right.name}"

    @property
    def key(self) -> str:
        return key_of(self.left.key, self.right.key)

    def spearman(self, encoder: Encoder, batch_size: int = 64) -> float:
        """Return Spearman's correlation x 100, the mean of both directions.

        Each compares the first sentence in one language with the second in the other.
        """
        forth = Sts(self.name, self.left.first, self.right.second, self.left.scores)
        back = Sts(self.name, self.right.first, self.left.second, self.left.scores)
        return (forth.spearman(encoder, batch_size) + back.spearman(encoder, batch_size)) / 2
