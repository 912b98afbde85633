"""Vectors that may be cut to fewer dimensions, each prefix a vector of its own, where a model was trained for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compressor.artifact.manifest import own_manifest, recipe_of
from compressor.core.encoder import Vectors

_STATED = (("distil", "matryoshka"), ("pca", "prefixes"))


def vector_lengths(folder: Path, dim: int) -> tuple[int, ...]:
    """Return the lengths below ``dim`` at which an artifact's vectors may be cut, longest first: its recipe's.

    None are where the recipe states none: the first components of other vectors are no vector.
    """
    recipe = recipe_of(own_manifest(folder))
    stated = {length for section, field in _STATED for length in _listed(recipe, section, field)}
    return tuple(sorted((length for length in stated if 2 <= length < dim), reverse=True))


def shortened(vectors: Vectors, length: int, unit: bool) -> Vectors:
    """Return the first ``length`` components of vectors, float32 [n, length]; ``unit``: of length 1 again."""
    cut = np.ascontiguousarray(vectors[:, :length])
    return normalised(cut) if unit else cut


def normalised(vectors: Vectors) -> Vectors:
    """Return vectors at length 1, float32 [n, dim]; a vector of zeros stays one."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def _listed(recipe: Mapping[str, Any], section: str, field: str) -> list[int]:
    part = recipe.get(section)
    values = part.get(field) if isinstance(part, dict) else None
    return [value for value in values if type(value) is int] if isinstance(values, list) else []
