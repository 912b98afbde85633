"""Texts side by side with those most like them: related pairs are what a batch's similarities teach by."""

import numpy as np
from numpy.typing import NDArray

from compressor.core.encoder import Vectors
from compressor.models.agreement import normalized


def grouped(vectors: Vectors, size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return an order of the rows in which each ``size`` in a row are one and those left that are most similar to it.

    ``vectors`` are the teacher's, float32 [n, dim]; the order is int64 [n]. Which rows choose first is random. In a
    random batch nearly all pairs are unrelated; batches of related texts make distillation learn to tell them apart
    (topic-aware sampling: Hofstätter et al. 2021, arXiv:2104.06967).
    """
    units = normalized(vectors)
    near = units @ units.T
    order: list[NDArray[np.int64]] = []
    for row in random.permutation(len(units)):
        if np.isneginf(near[row, row]):  # taken already
            continue
        near[row, row] = np.inf  # itself first
        left = int(np.isfinite(near[row]).sum()) + 1
        count = min(size, left)
        taken = np.argpartition(-near[row], count - 1)[:count].astype(np.int64)
        order.append(taken)
        near[:, taken] = -np.inf
    return np.concatenate(order) if order else np.zeros(0, np.int64)
