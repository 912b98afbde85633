"""Timings in turns: each rival against what is best so far, in the same second of the machine."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressor.core.figures import Figures
from exporters.precision.calibrate import Batch
from exporters.runtime.names import with_cpu
from exporters.runtime.providers import CPU, open_session

Pass = Callable[[], float]
"""Runs all texts once and returns the seconds that it took."""
PASS_TOKENS = 512
"""Of a batch, at most, where graphs are compared."""
_SURELY_SLOWER = 0.97
_LEAST_SECONDS = 0.25


@dataclass(frozen=True)
class Ratio(Figures):
    """How many times as fast as the base: the median of the turns, and its quartiles."""

    median: float
    low: float
    high: float
    turns: int


def contest(base: Pass, rivals: Mapping[str, Pass], turns: int) -> dict[str, Ratio]:
    """Time every rival against ``base`` in turns; one that is surely slower after half of them is timed no further."""
    for run in (base, *rivals.values()):
        run()  # memory is asked for, and caches are filled
    ratios: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(turns):
        seconds = base()
        for name, run in rivals.items():
            if turn < turns // 2 or np.median(ratios[name]) >= _SURELY_SLOWER:
                ratios[name].append(seconds / run())
    return {name: _ratio(values) for name, values in ratios.items()}


def _ratio(values: Sequence[float]) -> Ratio:
    low, median, high = np.percentile(values, [25, 50, 75])
    return Ratio(float(median), float(low), float(high), len(values))


def graph_pass(folder: Path, batches: Iterable[Batch], outputs: Sequence[str], provider: str = CPU) -> Pass:
    """Return a pass of one session on one thread, timed by the processor's own seconds: what else runs hardly counts.

    Other providers than the CPU's have threads of their own: they are timed by the clock on the wall.
    ``batches`` are cut once, by like length and PASS_TOKENS tokens.
    """
    session, clock = open_session(folder, with_cpu(provider), 1), time.thread_time
    if provider != CPU:
        clock = time.perf_counter
    names = {value.name for value in session.get_inputs()}
    feeds = [{name: values for name, values in batch.items() if name in names} for batch in batches]
    wanted = list(outputs)

    def run() -> float:
        start = clock()
        for feed in feeds:
            session.run(wanted, feed)
        return clock() - start

    return run


def whole_pass(compute: Callable[[Sequence[Any]], object], items: Sequence[Any]) -> Pass:
    """Return a pass of the whole way, texts in and vectors or answers out, by the clock on the wall.

    ``items`` are repeated until a pass lasts ``_LEAST_SECONDS``: how it starts and ends would outweigh the rest of it.
    """
    repeated = list(items)

    def run() -> float:
        start = time.perf_counter()
        compute(repeated)
        seconds = (time.perf_counter() - start) * len(items) / len(repeated)
        if seconds * len(repeated) < _LEAST_SECONDS * len(items):
            repeated[:] = list(items) * math.ceil(_LEAST_SECONDS / seconds)
        return seconds

    return run
