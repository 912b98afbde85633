"""Who runs when, and what the runs tell: orders that favour nobody, and intervals that assume nothing of the noise."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, TypeVar

import numpy as np

from compressor.core.figures import Figures
from compressor.core.strict_json import JsonObject

T = TypeVar("T")


def orders(items: Sequence[T], rounds: int) -> Iterator[list[T]]:
    """Yield the order of each round: over all, each item is as often at each place, and behind each other, as any.

    Whatever runs first in a round, or behind a system that leaves the machine hot or its caches cold, would
    otherwise do so in every round. Williams, "Experimental designs balanced for the estimation of residual effects of
    treatments", 1949: balanced in as many rounds as there are items, twice as many where their number is odd.
    """
    count = len(items)
    zigzag = [(i + 1) // 2 if i % 2 else -i // 2 for i in range(count)]
    for number in range(rounds):
        row = [items[(place + number) % count] for place in zigzag]
        yield row[::-1] if count % 2 and number // count % 2 else row


class Interval(NamedTuple):
    """Where the median of what is behind the values lies."""

    low: float
    high: float
    confidence: float
    """How sure that is: for 1 to 5 values even their whole range is less than 0.95."""


def interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the narrowest pair of ``values`` around the median that is at least so sure, or else their range.

    Exact for independent values of any distribution, as each lies on either side of the median with chance 1/2
    (the interval of the sign test).
    """
    ordered, count = sorted(values), len(values)
    outside, reached, depth = 0.0, 1 - 0.5 ** (count - 1), 0
    for cut in range((count + 1) // 2):
        outside += 2 * math.comb(count, cut) * 0.5**count
        if cut and 1 - outside < confidence:
            break
        reached, depth = 1 - outside, cut
    return Interval(ordered[depth], ordered[-1 - depth], max(0.0, reached))


@dataclass(frozen=True)
class AgainstItself(Figures):
    """Figures of one system under two names, round by round: their ratio should be 1 within its interval."""

    ratio: float
    low: float
    high: float
    confidence: float

    @classmethod
    def of(cls, first: Sequence[float], second: Sequence[float]) -> Self:
        """Compare the figures of each round."""
        ratios = [again / once for once, again in zip(first, second, strict=True)]
        return cls(float(np.median(ratios)), *interval(ratios))

    @property
    def holds(self) -> bool:
        """Whether the system is as fast as itself, as far as the rounds tell."""
        return self.low <= 1 <= self.high

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return super().as_dict() | {"holds": self.holds}
