"""The map that takes an index of the teacher's vectors into an artifact's space, held against the graph beside it."""

import struct
import sys
from array import array
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from compressor.core.errors import ArtifactError
from compressor.untrusted.weights import read_header

_BLOCK = 1 << 20  # bytes, of whole numbers


def check_projection(path: Path, dim: int, figures: Mapping[str, Any]) -> int:
    """Return the length of the teacher's vectors, which ``path`` turns into ones of ``dim``, the graph's.

    ArtifactError unless it holds float32 ``components`` [dim, width] and ``mean`` [width], numbers all, of the width
    that the manifest's ``figures`` state, where they do.
    """
    held = {name: (entry["dtype"], entry["shape"]) for name, entry in read_header(path).items()}
    width = figures.get("teacher_dim", _width(held))
    if type(width) is not int or held != {"components": ("F32", [dim, width]), "mean": ("F32", [width])}:
        own = width if type(width) is int else "width"
        wanted = f"components F32 [{dim}, {own}] and mean F32 [{own}]"
        raise ArtifactError(
            f"{path}: holds {_listed(held)}; must be {wanted}, by the graph's vectors and the teacher's"
        )
    if not _all_finite(path):
        raise ArtifactError(f"{path}: holds NaN or infinite numbers")
    return width


def _width(held: Mapping[str, tuple[str, list[int]]]) -> int | None:
    _, shape = held.get("mean", ("", []))
    return shape[0] if len(shape) == 1 else None


def _listed(held: Mapping[str, tuple[str, list[int]]]) -> str:
    listed = [f"{name!a:.40} {dtype} {shape}" for name, (dtype, shape) in sorted(held.items())[:3]]
    return ", ".join(listed)[:200] or "nothing"


def _all_finite(path: Path) -> bool:
    """Tell whether all float32 numbers behind the header, which was read, are finite; this needs no NumPy."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        while block := file.read(_BLOCK):
            numbers = array("f", block)
            if sys.byteorder == "big":
                numbers.byteswap()
            if not all(map(isfinite, numbers)):
                return False
    return True
