"""Speed as MLPerf Inference defines it (Reddi et al. 2020, arXiv:1911.02549): Offline and SingleStream.

Offline: all texts are there at once; texts a second. SingleStream: one text at a time, the next when the
last is done; latency percentiles. Text goes in and vectors come out: tokenizing counts. Systems take turns
within a round, so that a machine that slows down slows all of them.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compressor.encoder import Encoder
from compressor.errors import TextError
from compressor.progress import track

TRIAL_TEXTS = 256  # texts on which a system's best batch size is chosen
_LENGTH_TOKENS, _LEAST_TEXTS = 6144, 32  # texts a length: so many tokens in all, and never fewer than so many texts
SETTLE_SECONDS = 0.3  # thread pools spin for up to 0.2 s after their last work, on cores that the next system needs


@dataclass
class Offline:
    """Throughput of one system: its best batch size, and texts a second in each round."""

    by_batch_size: dict[int, float]
    rounds: list[float] = field(default_factory=list)

    @property
    def batch_size(self) -> int:
        return max(self.by_batch_size, key=lambda size: self.by_batch_size[size])

    def as_dict(self, baseline: "Offline") -> dict[str, Any]:
        """Return the figures, the ratios taken round by round to ``baseline``."""
        return {
            "batch_size": self.batch_size,
            "by_batch_size": {str(size): rate for size, rate in self.by_batch_size.items()},
            "texts_per_second": float(np.median(self.rounds)),
            "rounds": self.rounds,
            **ratio(self.rounds, baseline.rounds),
        }


def ratio(own: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Compare two systems' rates round by round: the median of the ratios, the lowest and the highest."""
    ratios = [one / other for one, other in zip(own, base, strict=True)]
    return {"ratio": float(np.median(ratios)), "ratio_min": min(ratios), "ratio_max": max(ratios)}


def rate(encoder: Encoder, texts: Sequence[Any], batch_size: int) -> float:
    """Return texts a second of one pass, once the last system's threads have gone to sleep."""
    time.sleep(SETTLE_SECONDS)
    encoder.encode(texts[:batch_size], batch_size)  # wake this one's
    start = time.perf_counter()
    encoder.encode(texts, batch_size)
    return len(texts) / (time.perf_counter() - start)


def offline(
    encoders: Mapping[str, Encoder], texts: Sequence[Any], batch_sizes: Sequence[int], rounds: int
) -> dict[str, dict[str, Any]]:
    """Measure every encoder's throughput; the first is the baseline of the ratios."""
    trial = texts[:TRIAL_TEXTS]
    measured = {}
    with track("offline", len(encoders) * (len(batch_sizes) + rounds), "passes") as advance:
        for name, encoder in encoders.items():
            encoder.encode(trial[:32], min(batch_sizes))  # warm-up
            rates = {}
            for size in batch_sizes:
                rates[size] = max(rate(encoder, trial, size) for _ in range(2))
                advance(1)
            measured[name] = Offline(rates)
        for _ in range(rounds):
            for name, encoder in encoders.items():
                measured[name].rounds.append(rate(encoder, texts, measured[name].batch_size))
                advance(1)
    baseline = next(iter(measured.values()))
    return {name: result.as_dict(baseline) for name, result in measured.items()}


def single_stream(encoders: Mapping[str, Encoder], texts: Sequence[Any], queries: int) -> dict[str, dict[str, Any]]:
    """Measure every encoder's latency on ``queries`` texts, in turns of 20."""
    latencies: dict[str, list[float]] = {name: [] for name in encoders}
    with track("single stream", queries * len(encoders), "queries") as advance:
        for start in range(0, queries, 20):
            turn = [texts[i % len(texts)] for i in range(start, min(start + 20, queries))]
            for name, encoder in encoders.items():
                latencies[name] += _latencies(encoder, turn)
                advance(len(turn))
    return {name: percentiles(values) for name, values in latencies.items()}


def _latencies(encoder: Encoder, texts: Sequence[Any]) -> list[float]:
    time.sleep(SETTLE_SECONDS)
    for text in texts[:3]:
        encoder.encode([text], 1)  # back from the others' turn
    values = []
    for text in texts:
        start = time.perf_counter()
        encoder.encode([text], 1)
        values.append(1000 * (time.perf_counter() - start))
    return values


def percentiles(values: list[float]) -> dict[str, Any]:
    """Return the ``single_stream`` figures of latencies in milliseconds."""
    p50, p90, p99 = np.percentile(values, [50, 90, 99])
    return {
        "queries": len(values),
        "latency_ms_p50": float(p50),
        "latency_ms_p90": float(p90),
        "latency_ms_p99": float(p99),
    }


def by_length(
    encoders: Mapping[str, Encoder], texts: Mapping[int, Sequence[str]], queries: int = 20
) -> dict[str, list[dict[str, Any]]]:
    """Measure throughput and median latency at each length; ``texts`` maps tokens to texts of that length."""
    result: dict[str, list[dict[str, Any]]] = {name: [] for name in encoders}
    with track("by length", len(texts) * len(encoders), "passes") as advance:
        for tokens, same in texts.items():
            rates: dict[str, float] = {}
            for name, encoder in encoders.items():
                rates[name] = max(rate(encoder, same, size) for size in (8, 32))
                latency = float(np.median(_latencies(encoder, same[:queries])))
                row = {"tokens": tokens, "texts_per_second": rates[name], "latency_ms_p50": latency}
                result[name].append(row | {"ratio": rates[name] / next(iter(rates.values()))})
                advance(1)
    return result


def texts_of_length(tokenizer: Any, texts: Sequence[str], tokens: int) -> list[str]:
    """Return texts of ``tokens`` tokens each, special ones included, cut from the given texts in a row.

    ``tokenizer`` is a ``tokenizers.Tokenizer`` without truncation. TextError if the texts hold no token.
    """
    if not any(tokenizer.encode(text, add_special_tokens=False).ids for text in texts):
        raise TextError(f"{len(texts)} texts without a token; none of {tokens} tokens can be cut from them")
    wanted = tokens - tokenizer.num_special_tokens_to_add(False)
    made: list[str] = []
    source = itertools.cycle(texts)
    while len(made) < max(_LEAST_TEXTS, _LENGTH_TOKENS // tokens):
        text = ""
        ends: list[int] = []
        while len(ends) < wanted:
            text = f"{text} {next(source)}".lstrip()
            ends = [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets]
        made.append(text[: ends[wanted - 1]])
    return made
