"""The seam: texts in, vectors out. Teacher, student, PyTorch int8 and ONNX session are all an Encoder."""

import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into vectors."""

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut."""
        ...

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        """Return float32 [len(texts), dim], rows in the order of ``texts``."""
        ...


def length_sorted_batches(
    lengths: NDArray[np.int64], batch_size: int, most_tokens: int | None = None, equal: bool = False
) -> list[NDArray[np.intp]]:
    """Cut row numbers into batches of like length, longest first, so that little padding is computed.

    A batch has at most ``batch_size`` rows and, with the padding, at most ``most_tokens`` tokens, but one row at least;
    where ``equal``, its rows have one length.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(lengths[order])) + 1, len(order)) if equal else np.array([len(order)])
    batches = []
    start = 0
    for end in ends:
        while start < end:
            rows = batch_size
            if most_tokens is not None:
                rows = max(1, min(rows, most_tokens // max(1, int(lengths[order[start]]))))
            batches.append(order[start : min(start + rows, end)])
            start += len(batches[-1])
    return batches


def usable_cores() -> int:
    """Count the cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)
