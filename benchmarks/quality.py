"""Quality: Spearman's correlation with human similarity scores (STS)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from compressor.agreement import cosines
from compressor.artifact import key_of
from compressor.encoder import Encoder
from compressor.errors import TextError
from compressor.tables import csv_rows, delimiter_of


@dataclass(frozen=True)
class Sts:
    """Pairs of sentences and how similar people found them."""

    name: str
    first: list[str]
    second: list[str]
    scores: list[float]

    @classmethod
    def read(cls, path: Path) -> "Sts":
        """Read rows of ``sentence1,sentence2,score``, with tabs between in a .tsv file, with or without that header.

        TextError names the line of what is no such row.
        """
        rows = [(line, row) for line, row in csv_rows(path, delimiter_of(path)) if row]
        if rows and [cell.strip().lower() for cell in rows[0][1]] == ["sentence1", "sentence2", "score"]:
            rows = rows[1:]
        pairs = [_pair(path, line, row) for line, row in rows]
        if len(pairs) < 2:
            raise TextError(f"{path}: {len(pairs)} pairs; at least 2 are needed")
        first, second, scores = zip(*pairs, strict=True)
        if len(set(scores)) < 2:
            raise TextError(f"{path}: every score is {scores[0]:g}; there is nothing to rank")
        return cls(path.stem, list(first), list(second), list(scores))

    @property
    def key(self) -> str:
        return key_of(self.first, self.second, self.scores)

    @property
    def texts(self) -> list[str]:
        return [*self.first, *self.second]

    def spearman(self, encoder: Encoder, batch_size: int = 64) -> float:
        """Return Spearman's correlation x 100 of the vectors' cosines with the scores."""
        vectors = encoder.encode(self.texts, batch_size)
        half = len(self.first)
        return 100 * float(spearmanr(cosines(vectors[:half], vectors[half:]), np.array(self.scores))[0])


def _pair(path: Path, line: int, row: list[str]) -> tuple[str, str, float]:
    try:
        first, second, score = row
        value = float(score)
    except ValueError as error:
        raise TextError(f"{path}: line {line}: expected sentence1,sentence2,score, got {row!r:.80}") from error
    if not np.isfinite(value):
        raise TextError(f"{path}: line {line}: score {score} is not a finite number")
    return first, second, value
