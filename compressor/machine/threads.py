"""The threads that libraries compute on: as many as are asked for, whatever the user's shell has.

PyTorch obeys OMP_NUM_THREADS, ONNX Runtime does not: figures taken side by side would flatter the one or the other.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from compressor.core.errors import CompressorError
from compressor.machine.describe import HUGE_PAGES

_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
# What PyTorch's threads alone are held by, however many it is asked for.
_BOUNDS = (
    "OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY",
    "MKL_DOMAIN_NUM_THREADS",
)  # fmt: skip
_OFF = ("", "false")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch compute on ``count`` threads, and put back what it had."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def same_threads(count: int) -> Iterator[None]:
    """Let PyTorch have the ``count`` threads of the systems beside it; CompressorError where it cannot have them."""
    for name in _BOUNDS:
        if (value := os.environ.get(name, "")).lower() not in _OFF:
            raise CompressorError(f"{name} = {value}: holds PyTorch's threads and no others; unset it to measure")
    with torch_threads(count):
        yield


def environment(threads: int) -> dict[str, str]:
    """Return the variables of a process that is measured: libraries on ``threads``, else as an artifact's users have.

    Without what holds threads, and without what this project sets for training.
    """
    kept = {name: value for name, value in os.environ.items() if name not in (*_BOUNDS, HUGE_PAGES)}
    return kept | dict.fromkeys(_COUNTS, str(threads))
