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


def length_sorted_batches(lengths: NDArray[np.int64], batch_size: int) -> list[NDArray[np.intp]]:
    """Cut row numbers into batches of like length, longest first, so that little padding is computed."""
    order = np.argsort(-lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def usable_cores() -> int:
    """Count the cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)
