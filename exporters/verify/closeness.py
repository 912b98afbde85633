"""How close an int8 or fp16 form stays to the fp32 form that it was made of, as it is said to who made it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressor.answering.questions.spans import Logits
from compressor.answering.questions.squad import Questions
from compressor.core.encoder import Encoder, Vectors
from compressor.core.figures import Figures
from compressor.core.progress import track
from compressor.models.agreement import cosines
from exporters.reader import OnnxReader
from exporters.verify.conformance import cases

_COMPARED = 256  # texts or questions, at most
_AT_ONCE = 32


@dataclass(frozen=True)
class Closeness(Figures):
    """Cosines of what a form gives with what fp32 gives."""

    cosine_mean: float
    cosine_min: float
    count: int
    of: str
    """What was compared: so many of these."""


def of_texts(exact: Encoder, reduced: Encoder, texts: Sequence[str]) -> Closeness:
    """Return the mean and the least cosine of texts' vectors with their fp32 vectors, and of how many texts."""
    texts = texts[:_COMPARED]
    near: list[Vectors] = []
    with track("compare with fp32", len(texts)) as advance:
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            near.append(_cosines(exact.encode(some), reduced.encode(some)))
            advance(len(some))
    return _figures(np.concatenate(near), "held-out texts")


def of_questions(exact: Path, reduced: Path, questions: Questions) -> Closeness:
    """Return the mean and the least cosine of windows' logits with the fp32 logits, and of how many windows."""
    readers, questions = (OnnxReader(exact), OnnxReader(reduced)), questions[:_COMPARED]
    near: list[float] = []
    with track("compare with fp32", len(questions), "questions") as advance:
        for start in range(0, len(questions), _AT_ONCE):
            some = questions[start : start + _AT_ONCE]
            near += row_cosines(*(_logits(reader, some) for reader in readers)).tolist()
            advance(len(some))
    return _figures(np.array(near, np.float32), "windows of held-out questions")


def _logits(reader: OnnxReader, questions: Questions) -> list[Vectors]:
    return side_by_side(*reader.logits(reader.cutter.cut(questions)))


def side_by_side(starts: Sequence[Logits], ends: Sequence[Logits]) -> list[Vectors]:
    """Return the start and end logits of each window in one row, float32 [2 * tokens]."""
    return [np.concatenate(pair) for pair in zip(starts, ends, strict=True)]


def of_cases(exact: Path, reduced: Path) -> Closeness:
    """Return the mean and the least cosine of outputs with the fp32 outputs, on the texts of the conformance set."""
    pairs = zip(cases(exact), cases(reduced), strict=True)
    rows = [
        [np.array(side["outputs"][name], np.float32) for side in (expected, actual)]
        for expected, actual in pairs
        for name in expected["outputs"]
    ]
    return _figures(row_cosines(*zip(*rows, strict=True)), "outputs of the conformance texts")


def _cosines(exact: Vectors, reduced: Vectors) -> Vectors:
    """Return the cosine of each row, float32 [rows]; 1 where both are zero, as a static model's are of no tokens."""
    empty = ~exact.any(axis=1) & ~reduced.any(axis=1)
    return np.where(empty, np.float32(1), cosines(exact, reduced))


def row_cosines(exact: Sequence[Vectors], reduced: Sequence[Vectors]) -> Vectors:
    """Return the cosine of each row with the same row of the other, float32 [rows]; rows may differ in length."""
    near = [_cosines(one[None], other[None])[0] for one, other in zip(exact, reduced, strict=True)]
    return np.array(near, np.float32)


def _figures(near: Vectors, of: str) -> Closeness:
    return Closeness(float(near.mean()), float(near.min()), len(near), of)
