"""Speed as MLPerf Inference defines it (Reddi et al. 2020, arXiv:1911.02549): Offline and SingleStream.

Offline: all texts are there at once; texts a second. SingleStream: one text at a time, the next when the
last is done; latency percentiles. Text goes in and vectors come out: tokenizing counts. Systems take turns
within a round, so that a machine that slows down slows all of them, each round in another order.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.speed.figures import AtLength, Offline, Ratio, SingleStream
from benchmarks.speed.turns import orders
from compressor.core.progress import track
from exporters.tasks.base import Runner

TRIAL_TEXTS = 256  # texts on which a system's best batch size is chosen
TURN_QUERIES = 20  # queries of SingleStream before the next system has its turn
TURN_SECONDS = (
    1.0  # a turn is passes for at least so long: one pass of a fast system is shorter than a machine's hiccup
)
SETTLE_SECONDS = 0.3  # thread pools spin for up to 0.2 s after their last work, on cores that the next system needs


@dataclass
class Rates:
    """Items a second of one system: what each batch size gave, and then each round at the best of them."""

    by_batch_size: dict[int, float]
    rounds: list[float] = field(default_factory=list)

    @property
    def batch_size(self) -> int:
        return max(self.by_batch_size, key=lambda size: self.by_batch_size[size])

    def against(self, baseline: "Rates") -> Offline:
        """Return the figures, the ratios taken round by round to ``baseline``."""
        ratio = Ratio.of(self.rounds, baseline.rounds)
        return Offline(self.batch_size, self.by_batch_size, float(np.median(self.rounds)), self.rounds, ratio)


def rate(encoder: Runner, texts: Sequence[Any], batch_size: int, seconds: float = 0.0) -> float:
    """Return texts a second of passes that last ``seconds``, once the last system's threads have gone to sleep."""
    time.sleep(SETTLE_SECONDS)
    encoder.encode(texts[:batch_size], batch_size)  # wake this one's
    start, passes, lasted = time.perf_counter(), 0, 0.0
    while not passes or lasted < seconds:
        encoder.encode(texts, batch_size)
        passes, lasted = passes + 1, time.perf_counter() - start
    return passes * len(texts) / lasted


def offline(
    encoders: Mapping[str, Runner],
    texts: Sequence[Any],
    batch_sizes: Sequence[int],
    rounds: int,
    seconds: float | None = None,
    label: str = "offline",
) -> dict[str, Offline]:
    """Measure every encoder's throughput, in turns of ``seconds``; the first is the baseline of the ratios.

    ``label``: what its progress is shown as.
    """
    lasting = TURN_SECONDS if seconds is None else seconds
    trial = texts[:TRIAL_TEXTS]
    measured = {}
    with track(label, len(encoders) * (2 * len(batch_sizes) + rounds), "turns") as advance:
        for name, encoder in encoders.items():
            encoder.encode(trial[:32], min(batch_sizes))  # warm-up
            rates = dict.fromkeys(batch_sizes, 0.0)
            for size in [*batch_sizes, *reversed(batch_sizes)]:
                rates[size] = max(rates[size], rate(encoder, trial, size, lasting / 4))
                advance(1)
            measured[name] = Rates(rates)
        for order in orders(list(encoders), rounds):
            for name in order:
                measured[name].rounds.append(rate(encoders[name], texts, measured[name].batch_size, lasting))
                advance(1)
    baseline = next(iter(measured.values()))
    return {name: result.against(baseline) for name, result in measured.items()}


def single_stream(encoders: Mapping[str, Runner], texts: Sequence[Any], queries: int) -> dict[str, SingleStream]:
    """Measure every encoder's latency on ``queries`` texts, in turns of 20."""
    turns: dict[str, list[list[float]]] = {name: [] for name in encoders}
    starts = range(0, queries, TURN_QUERIES)
    with track("single stream", queries * len(encoders), "queries") as advance:
        for start, order in zip(starts, orders(list(encoders), len(starts)), strict=True):
            turn = [texts[i % len(texts)] for i in range(start, min(start + TURN_QUERIES, queries))]
            for name in order:
                turns[name].append(latencies(encoders[name], turn))
                advance(len(turn))
    return {name: SingleStream.of(values) for name, values in turns.items()}


def latencies(encoder: Runner, texts: Sequence[Any]) -> list[float]:
    """Return the milliseconds that each text takes, one after the other."""
    time.sleep(SETTLE_SECONDS)
    for text in texts[:3]:
        encoder.encode([text], 1)  # back from the others' turn
    values = []
    for text in texts:
        start = time.perf_counter()
        encoder.encode([text], 1)
        values.append(1000 * (time.perf_counter() - start))
    return values


def by_length(
    encoders: Mapping[str, Runner], texts: Mapping[int, Sequence[Any]], queries: int = 60
) -> dict[str, list[AtLength]]:
    """Measure throughput and median latency at each length; ``texts`` maps tokens to texts of that length."""
    result: dict[str, list[AtLength]] = {name: [] for name in encoders}
    for tokens, cut in texts.items():
        fast = offline(encoders, cut, (8, 32), rounds=3, seconds=TURN_SECONDS / 2, label=f"{tokens} tokens")
        slow = single_stream(encoders, cut, queries)
        for name, rows in result.items():
            rows.append(AtLength(tokens, fast[name].rate, fast[name].ratio, slow[name].latency_ms_p50))
    return result
