"""Quantized output vectors: int8 and binary codes in sentence-transformers' conventions, for smaller indexes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from compressor.core.encoder import Vectors
from compressor.core.errors import ArtifactError, RecipeError, unreadable

RANGES = "output_ranges.safetensors"
VectorPrecision = Literal["float32", "int8", "uint8", "binary", "ubinary"]
"""What output vectors are handed out in; what an artifact stores is ``compressor.artifact.cases.Precision``."""
FORMS: tuple[VectorPrecision, ...] = ("float32", "int8", "binary")  # what is measured; the unsigned ones keep as much
PRECISIONS: tuple[VectorPrecision, ...] = get_args(VectorPrecision)


@dataclass(frozen=True)
class Ranges:
    """The values that int8 codes span: ``bounds`` float32 [2, dim], lowest and highest.

    They are what sentence-transformers' ``quantize_embeddings`` takes as ``ranges``.
    """

    bounds: Vectors

    @classmethod
    def fit(cls, vectors: Vectors) -> "Ranges":
        """Fit one range for all dimensions, about zero, on a sample of a model's vectors, float32 [n, dim].

        The int8 codes are then the vectors times one number, rounded, so that their plain dot product and cosine
        rank as the vectors' own do. A range for each dimension, as sentence-transformers fits it, would give every
        dimension a scale and an offset of its own, and distort both.
        """
        step = max(float(np.abs(vectors).max(initial=0.0)), 1e-12) / 127
        # Codes are rounded down from the lowest value, -128: half a step below it makes that to the nearest.
        ends = np.array([[-128.5 * step], [126.5 * step]], np.float32)
        return cls(np.repeat(ends, vectors.shape[1], axis=1))

    def codes(self, vectors: Vectors) -> NDArray[np.uint8]:
        """Return which 255th of its range each value lies in, uint8 [n, dim]; values outside take the nearest end."""
        low, high = self.bounds
        steps = (high - low) / 255
        steps = np.where(steps == 0, 1, steps)
        return np.clip(np.floor((vectors - low) / steps), 0, 255).astype(np.uint8)

    def save(self, folder: Path) -> None:
        """Keep the ranges in a model's or an artifact's folder."""
        from safetensors.numpy import save  # save_file's files are their writer's alone

        (folder / RANGES).write_bytes(save({"ranges": np.ascontiguousarray(self.bounds)}))

    @classmethod
    def load(cls, folder: Path, dim: int) -> "Ranges":
        """Return the ranges kept in ``folder``; ArtifactError if there are none, or none for ``dim`` dimensions."""
        from safetensors import SafetensorError  # here: float32 vectors need no safetensors
        from safetensors.numpy import load

        path = folder / RANGES
        if not path.is_file():
            raise ArtifactError(
                f"{path}: no such file, and int8 and uint8 vectors need its ranges; "
                "make it with Ranges.fit(encoder.encode(texts)).save(folder)"
            )
        try:
            bounds = load(path.read_bytes())["ranges"]
        except OSError as error:
            raise ArtifactError(unreadable(path, error)) from error
        except (SafetensorError, KeyError) as error:
            raise ArtifactError(f"{path}: not readable as safetensors with a tensor ranges") from error
        if bounds.shape != (2, dim) or bounds.dtype != np.float32:
            raise ArtifactError(f"{path}: ranges are {bounds.dtype} {list(bounds.shape)}, must be float32 [2, {dim}]")
        if not (np.isfinite(bounds).all() and (bounds[0] <= bounds[1]).all()):
            raise ArtifactError(f"{path}: ranges must be finite, the lowest value before the highest")
        return cls(bounds)


def check_precision(precision: str) -> None:
    """Raise RecipeError for a precision that is none of PRECISIONS."""
    if precision not in PRECISIONS:
        raise RecipeError(f"precision = {precision!r}: must be one of {', '.join(PRECISIONS)}")


def quantized(vectors: Vectors, precision: VectorPrecision, ranges: Ranges | None = None) -> NDArray[Any]:
    """Return ``vectors``, float32 [n, dim], in another precision, byte for byte as sentence-transformers gives them.

    int8 and uint8 [n, dim] take ``ranges``; uint8 is int8 plus 128, which its user takes off again before a cosine.
    ubinary, uint8 [n, dim / 8 rounded up], packs eight signs into a byte, the first one highest, 1 for positive;
    binary is the same minus 128 as int8. Raises RecipeError for another precision, ArtifactError without ranges.
    """
    check_precision(precision)
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        signs = np.packbits(vectors > 0, axis=-1)
        return signs if precision == "ubinary" else _signed(signs)
    if ranges is None:
        raise ArtifactError(f"precision = {precision!r}: needs ranges")
    codes = ranges.codes(vectors)
    return codes if precision == "uint8" else _signed(codes)


def scored(codes: NDArray[Any], precision: VectorPrecision, dim: int) -> Vectors:
    """Return quantized vectors as numbers whose cosine a search would rank by, float32 [n, dim]; bits as -1 and 1.

    The Hamming distance of two bit vectors is dim (1 - cosine) / 2 of these.
    """
    if precision in ("binary", "ubinary"):
        bits = np.unpackbits(codes if precision == "ubinary" else _unsigned(codes), axis=-1, count=dim)
        return 2 * bits.astype(np.float32) - 1
    return codes.astype(np.float32) - np.float32(128 if precision == "uint8" else 0)


def bytes_of(precision: VectorPrecision, dim: int) -> int:
    """Return the bytes that a vector of ``dim`` values takes."""
    return {"float32": 4 * dim, "int8": dim, "uint8": dim}.get(precision, (dim + 7) // 8)


def _signed(codes: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Return the codes minus 128."""
    return (codes ^ np.uint8(128)).view(np.int8)


def _unsigned(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    return codes.view(np.uint8) ^ np.uint8(128)
