"""What is measured of a system, with types: each is written as JSON, and read again.

Rates are of what a task counts, its ``unit``: JSON names them texts_per_second, or questions_per_second.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from compressor.core.figures import Figures
from compressor.core.strict_json import JsonObject


def rate_name(unit: str) -> str:
    """Name the rate of a ``unit`` as JSON does."""
    return f"{unit}_per_second"


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as another system: the median of all rounds, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, own: Sequence[float], base: Sequence[float]) -> Self:
        """Compare two systems' rates round by round."""
        ratios = [own_rate / base_rate for own_rate, base_rate in zip(own, base, strict=True)]
        return cls(float(np.median(ratios)), min(ratios), max(ratios))

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return {"ratio": self.median, "ratio_min": self.low, "ratio_max": self.high}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(stated["ratio"], stated["ratio_min"], stated["ratio_max"])


@dataclass(frozen=True)
class Offline:
    """Throughput of a system at its best batch size."""

    batch_size: int
    by_batch_size: Mapping[int, float]
    """The rate at each size that was tried."""
    rate: float
    """Items a second: the median of the rounds."""
    rounds: Sequence[float]
    """The rate in each round."""
    ratio: Ratio
    """Against the first system."""

    def as_dict(self, unit: str) -> JsonObject:
        """Return it as JSON has it."""
        return {
            "batch_size": self.batch_size,
            "by_batch_size": {str(size): rate for size, rate in self.by_batch_size.items()},
            rate_name(unit): self.rate,
            "rounds": list(self.rounds),
            **self.ratio.as_dict(),
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any], unit: str) -> Self:
        """Read what ``as_dict`` wrote."""
        tried = {int(size): rate for size, rate in stated["by_batch_size"].items()}
        return cls(stated["batch_size"], tried, stated[rate_name(unit)], stated["rounds"], Ratio.read(stated))


@dataclass(frozen=True)
class SingleStream(Figures):
    """Latency of one item at a time, in milliseconds."""

    queries: int
    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    turns_ms_p50: Sequence[float]
    """The median of each turn."""

    @classmethod
    def of(cls, turns: Sequence[Sequence[float]]) -> Self:
        """Take the percentiles of latencies in milliseconds, one sequence a turn."""
        values = list(itertools.chain.from_iterable(turns))
        p50, p90, p99 = np.percentile(values, [50, 90, 99])
        return cls(len(values), float(p50), float(p90), float(p99), [float(np.median(turn)) for turn in turns])


@dataclass(frozen=True)
class AtLength:
    """Speed on items of one length."""

    tokens: int
    rate: float
    ratio: Ratio
    latency_ms_p50: float

    def as_dict(self, unit: str) -> JsonObject:
        """Return it as JSON has it."""
        return {
            "tokens": self.tokens,
            rate_name(unit): self.rate,
            **self.ratio.as_dict(),
            "latency_ms_p50": self.latency_ms_p50,
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any], unit: str) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(stated["tokens"], stated[rate_name(unit)], Ratio.read(stated), stated["latency_ms_p50"])


@dataclass(frozen=True)
class Attempt(Figures):
    """One run of the Server scenario, at one rate of arrivals a second."""

    rate: float
    queries: int
    latency_ms_p50: float | None
    """None where items never came back: JSON has no infinity."""
    latency_ms_p99: float | None
    held: bool
    """Whether the bound was kept."""


@dataclass(frozen=True)
class HighestRate:
    """The highest rate of arrivals that kept the bound, and all runs that led to it."""

    rate: float
    """0 where none was found."""
    bound_ms: float
    tried: Sequence[Attempt]

    @property
    def kept(self) -> Attempt | None:
        """Return the run that kept the bound at this rate."""
        return next((run for run in reversed(self.tried) if run.held and run.rate == self.rate), None)

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it: the figures of the run that kept the bound, and everything that was tried."""
        found: JsonObject = {"rate": self.rate} if self.kept is None else self.kept.as_dict()
        return found | {"bound_ms": self.bound_ms, "tried": [run.as_dict() for run in self.tried]}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(stated["rate"], stated["bound_ms"], [Attempt.read(run) for run in stated["tried"]])


@dataclass(frozen=True)
class Footprint(Figures):
    """What a system costs a process of its own."""

    imports_seconds: float
    load_seconds: float
    """To open it and compute one item, once what it runs on is imported."""
    peak_memory_bytes: int
    """Of the whole process's resident set, interpreter and libraries included."""
    load_threads: int
    """Threads that it computed on."""
