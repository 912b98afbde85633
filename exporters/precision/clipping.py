"""Narrower ranges than the widest: where a few far values cost all others their resolution."""

from collections.abc import Callable, Iterable

import numpy as np
import onnx
from numpy.typing import NDArray

from exporters.precision.calibrate import Batch, Ranges, activations

Counts = NDArray[np.float64]
_BINS = 4096
_STEPS = 255
_OUTSIDE = 5e-5  # share of values left out at each end by ``percentile``
_SHARES = np.linspace(1.0, 0.3, 36)  # of the widest range, tried by ``least_error``


def clipped(
    graph: onnx.ModelProto,
    widest: Ranges,
    batches: Iterable[Batch],
    clip: Callable[[Counts, Counts], tuple[float, float]],
) -> Ranges:
    """Return what ``clip`` makes of each tensor's histogram: ``percentile`` or ``least_error``.

    ``widest`` are the tensors' least and largest values over the same batches.
    """
    edges = {name: np.linspace(low, max(high, low + 1e-6), _BINS + 1) for name, (low, high) in widest.items()}
    counts = {name: np.zeros(_BINS) for name in widest}
    for tensors in activations(graph, list(widest), batches):
        for name, values in tensors.items():
            counts[name] += np.histogram(values, edges[name])[0]
    return {name: clip(counts[name], (edges[name][1:] + edges[name][:-1]) / 2) for name in widest}


def percentile(counts: Counts, centres: Counts) -> tuple[float, float]:
    """Return the range that holds all but one value in 20,000 at each end."""
    share = np.cumsum(counts) / counts.sum()
    low, high = np.searchsorted(share, [_OUTSIDE, 1 - _OUTSIDE])
    return float(centres[low]), float(centres[min(high, _BINS - 1)])


def least_error(counts: Counts, centres: Counts) -> tuple[float, float]:
    """Return the range, each end narrowed on its own, in which 256 steps have the least squared error."""
    low, high = float(centres[0]), float(centres[-1])
    for end in (0, 1):
        ends = [(low * share, high) if end == 0 else (low, high * share) for share in _SHARES]
        low, high = min(ends, key=lambda span: _squared_error(counts, centres, *span))
    return low, high


def _squared_error(counts: Counts, centres: Counts, low: float, high: float) -> float:
    low, high = min(low, 0.0), max(high, 0.0)
    step = max(high - low, 1e-12) / _STEPS
    rounded = np.clip(np.rint((centres - low) / step), 0, _STEPS) * step + low
    return float((counts * np.square(rounded - centres)).sum())
