"""Quality: Spearman's correlation with human similarity scores (STS)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from compressor.artifact.folder import key_of
from compressor.core.encoder import Encoder, Vectors
from compressor.core.errors import ModelError, RecipeError, TextError
from compressor.models.agreement import check_vectors, cosines
from compressor.texts.tables import csv_rows, delimiter_of


def read_sets(paths: Sequence[str], base: Path, named: str) -> "list[Sts]":
    """Read the STS files of a field ``named`` so, relative to ``base``; RecipeError for two of one name."""
    files = [Sts.read(base / path) for path in paths]
    if len({file.name for file in files}) < len(files):
        raise RecipeError(f"{named} = {list(paths)}: two files of one name; figures are told apart by it")
    return files


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

    def spearman(self, encoder: Encoder, batch_size: int = 64, whose: str = "the model") -> float:
        """Return Spearman's correlation x 100 of the vectors' cosines with the scores.

        ModelError, with ``whose`` they are, for vectors that rank nothing.
        """
        vectors = encoder.encode(self.texts, batch_size)
        half = len(self.first)
        check_vectors(vectors, whose)
        return correlation(cosines(vectors[:half], vectors[half:]), self.scores, f"{whose} on {self.name}")


def correlation(similarities: Vectors, scores: Sequence[float], whose: str) -> float:
    """Return Spearman's correlation x 100; ModelError, with ``whose`` they are, where all similarities are the same."""
    if not np.ptp(similarities):
        raise ModelError(f"{whose}: finds every pair equally similar; there is nothing to rank")
    return 100 * float(spearmanr(similarities, np.array(scores))[0])


def _pair(path: Path, line: int, row: list[str]) -> tuple[str, str, float]:
    try:
        first, second, score = row
        value = float(score)
    except ValueError as error:
        raise TextError(f"{path}: line {line}: expected sentence1,sentence2,score, got {row!r:.80}") from error
    if not np.isfinite(value):
        raise TextError(f"{path}: line {line}: score {score} is not a finite number")
    return first, second, value
