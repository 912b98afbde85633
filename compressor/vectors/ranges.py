"""Fit the ranges that a model's int8 output vectors are cut from, and measure what quantized vectors keep."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from compressor.artifact.folder import Draft
from compressor.core.config import Config
from compressor.core.encoder import Vectors
from compressor.core.figures import Figures
from compressor.models.agreement import Heldout, neighbours_in_common
from compressor.models.sentence_model import TorchEncoder
from compressor.vectors.codes import FORMS, Ranges, VectorPrecision, bytes_of, quantized, scored
from compressor.vectors.pca import pair_correlation


class OutputVectors(Config):
    """Fit the ranges of int8 output vectors, which the artifacts carry, and measure what int8 and binary keep."""

    sample: Annotated[int, Field(ge=100)] = 5000
    """Training texts that the ranges are fitted on, at most."""

    def run(self, student: Path, texts: Sequence[str], heldout: Heldout, draft: Draft) -> None:
        """Write the ranges into ``draft``, and note the figures of each precision on the held-out texts."""
        encoder = TorchEncoder.load(student)
        ranges = Ranges.fit(encoder.encode(list(texts[: self.sample]), batch_size=64))
        ranges.save(draft.folder)
        own = encoder.encode(heldout.texts, batch_size=64)
        draft.figures["precisions"] = {form: kept(own, form, ranges, heldout.teacher).as_dict() for form in FORMS}


@dataclass(frozen=True)
class Kept(Figures):
    """What quantized vectors keep."""

    bytes: int
    """Of a vector."""
    neighbours_at_10: float
    pair_correlation: float


def kept(vectors: Vectors, precision: VectorPrecision, ranges: Ranges, teacher: Vectors) -> Kept:
    """Return the bytes a vector and the agreement with ``teacher`` of ``vectors``, float32 [n, dim], so quantized."""
    dim = vectors.shape[1]
    decoded = scored(quantized(vectors, precision, ranges), precision, dim)
    near, correlation = neighbours_in_common(teacher, decoded), pair_correlation(teacher, decoded)
    return Kept(bytes_of(precision, dim), near, correlation)
