"""The Server scenario of MLPerf Inference: texts arrive at random, and the 99th percentile of latency has a bound.

The figure is the highest rate of Poisson arrivals at which the bound is kept, behind a ``Batcher``. Latency counts from
when a text was due, not from when it was sent: a queue that forms anywhere is seen.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.speed import throughput
from benchmarks.speed.figures import Attempt, HighestRate
from compressor.core.errors import BusyError
from compressor.core.progress import track
from exporters.serving import Batcher, Served
from exporters.tasks import Item

SECONDS, QUERIES = 5.0, 1000  # a rate is tried for so long, and with at least so many texts
PRECISION = 0.02  # the search ends when it knows the rate so well
_TRIES = 2  # runs that a rate has to keep the bound in one: MLPerf asks for one valid run, and machines hiccup


class Latency(NamedTuple):
    """What one run at one rate gave."""

    queries: int
    p50_ms: float
    p99_ms: float


Drive = Callable[[float, int], Latency]
"""Send texts at a rate (texts a second), with a seed."""


@dataclass
class Search:
    """A binary search for the highest rate that keeps the bound; everything tried is kept."""

    drive: Drive
    bound_ms: float
    tried: list[Attempt] = field(default_factory=list)

    def highest(self, ceiling: float, advance: Callable[[int], None] = lambda _: None) -> float:
        """Return the highest rate below ``ceiling``, which no rate is thought to pass; 0 where none was found."""
        low, high = 0.0, ceiling
        while high - low > PRECISION * high and high > ceiling / 100:
            middle = (low + high) / 2
            low, high = (middle, high) if self._holds(middle) else (low, middle)
            advance(1)
        return low

    def _holds(self, rate: float) -> bool:
        for seed in range(_TRIES):
            queries, p50, p99 = self.drive(rate, seed)
            held = p99 <= self.bound_ms
            self.tried.append(Attempt(rate, queries, _finite(p50), _finite(p99), held))
            if held:
                return True
        return False

    def result(self, rate: float) -> HighestRate:
        """Return the highest rate, and everything that was tried."""
        return HighestRate(rate, self.bound_ms, self.tried)


def _finite(ms: float) -> float | None:
    return ms if math.isfinite(ms) else None


def server(
    encoders: Mapping[str, Served], items: Sequence[Item], bound_ms: float, ceilings: Mapping[str, float]
) -> dict[str, HighestRate]:
    """Find every encoder's highest rate; ``ceilings``: what each reaches when all texts are there at once, or more."""
    results = {}
    with track("server", 8 * len(encoders), "rates") as advance:
        for name, encoder in encoders.items():
            time.sleep(throughput.SETTLE_SECONDS)
            with Batcher(encoder) as batcher:
                search = Search(partial(arrivals, batcher, items), bound_ms)
                results[name] = search.result(search.highest(ceilings[name], advance))
    return results


def arrivals(batcher: Batcher, items: Sequence[Item], rate: float, seed: int) -> Latency:
    """Send ``items``, drawn at random, at Poisson arrivals of ``rate`` a second.

    Where the batcher refuses a text, sending ends: the latency of what was not sent is infinite.
    """
    random = np.random.default_rng(seed)
    count = max(QUERIES, round(rate * SECONDS))
    due, drawn = np.cumsum(random.exponential(1 / rate, count)), random.integers(0, len(items), count)
    given = [item if isinstance(item, tuple) else (item,) for item in items]  # a question has its context beside it
    # Which text, when, and its error. Futures are not kept: Python's collector would walk them all, in the texts' time.
    back: list[tuple[int, float, BaseException | None]] = []
    sent, start = 0, time.perf_counter()

    def receive(at: int, result: Future[Any]) -> None:
        back.append((at, time.perf_counter() - start, result.exception()))

    for at, (moment, row) in enumerate(zip(due.tolist(), drawn.tolist(), strict=True)):
        early = moment - (time.perf_counter() - start)
        if early > 0:
            time.sleep(early)
        try:
            result = batcher.submit(*given[row])
        except BusyError:
            break
        result.add_done_callback(partial(receive, at))
        sent += 1
    while len(back) < sent:
        time.sleep(1e-3)
    done = np.full(count, np.inf)
    for at, seconds, error in back:
        if error is not None:
            raise error  # which is no latency
        done[at] = seconds
    p50, p99 = np.percentile(1000 * (done - due), [50, 99], method="higher")  # of numbers that may be infinite
    return Latency(count, float(p50), float(p99))
