"""One row: all systems on the same texts or ids, in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from benchmarks.cuda.plan import Cell, Plan
from benchmarks.cuda.results import Missed, Timed
from benchmarks.cuda.runners import Ids, Runner
from benchmarks.speed.figures import Ratio
from benchmarks.speed.turns import orders
from compressor.core.encoder import Vectors
from compressor.core.errors import TextError, one_line
from exporters.tasks.lengths import texts_of_length

Pass = Callable[[], Any]
"""Computes a cell's texts once, and returns when the vectors are on the host."""


@dataclass(frozen=True)
class Items:
    """What a cell's passes are about."""

    texts: list[str]
    ids: Ids
    mask: Ids

    def of(self, runner: Runner, cell: Cell) -> Pass:
        """Return a pass of ``runner``."""
        if cell.mode == "text":
            return lambda: runner.encode(self.texts, cell.batch)
        return lambda: runner.run_ids(self.ids, self.mask)

    def vectors(self, runner: Runner) -> Vectors:
        """Return the vectors of the ids."""
        return runner.run_ids(self.ids, self.mask)


def items_of(cell: Cell, tokenizer: Tokenizer, texts: Sequence[str]) -> Items:
    """Cut texts to a cell's length, again and again the same; ``tokenizer`` is one without padding and truncation.

    TextError where none that is cut has that length.
    """
    cut = texts_of_length(tokenizer, texts, cell.tokens)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(cut)]
    kept = [(text, ids) for text, ids in zip(cut, encoded, strict=True) if len(ids) == cell.tokens]
    if not kept:  # a tokenizer may read a text that is cut within a word as other tokens than before
        raise TextError(f"texts of {cell.tokens} tokens: of {len(cut)} that were cut, none has that length")
    some = [kept[place % len(kept)] for place in range(cell.texts)]
    ids = np.array([ids for _, ids in some[: cell.batch]], np.int64)
    return Items([text for text, _ in some], ids, np.ones_like(ids))


@dataclass
class _Measured:
    """One system's turns so far."""

    rates: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    """Of each turn: milliseconds of a pass."""
    reason: str | None = None
    lasted: float = 0.0
    """Seconds of its last pass."""

    def turn(self, one_pass: Pass, texts: int, seconds: float) -> None:
        """Run passes for so long, after one that brings it back from the others' turns, where passes are short."""
        if self.lasted < seconds:
            one_pass()
        taken: list[float] = []
        while not taken or sum(taken) < seconds:
            start = time.perf_counter()
            one_pass()
            taken.append(time.perf_counter() - start)
        self.rates.append(texts * len(taken) / sum(taken))
        self.medians.append(1000 * float(np.median(taken)))
        self.lasted = taken[-1]


def measure(passes: Mapping[str, Pass], cell: Cell, plan: Plan, baseline: str) -> list[Timed | Missed]:
    """Return each system's figures: texts a second and milliseconds a pass of each round, ratios to the baseline's.

    A system that fails says why, and the others go on.
    """
    found = {name: _Measured() for name in passes}
    for name, one_pass in passes.items():
        _guarded(found[name], _warm, one_pass)
    for order in orders(list(passes), plan.rounds):
        for name in order:
            _guarded(found[name], found[name].turn, passes[name], cell.texts, plan.seconds)
    base = found.get(baseline)
    return [_figures(name, measured, base) for name, measured in found.items()]


def _warm(one_pass: Pass) -> None:
    one_pass()
    one_pass()


def _guarded(measured: _Measured, work: Callable[..., object], *arguments: Any) -> None:
    if measured.reason is None:
        try:
            work(*arguments)
        except Exception as error:  # out of memory, say: whatever a library raises is that system's own
            measured.reason = one_line(error)


def _figures(name: str, measured: _Measured, baseline: _Measured | None) -> Timed | Missed:
    if measured.reason is not None:
        return Missed(name, measured.reason)
    ratio = Ratio.of(measured.rates, baseline.rates) if baseline is not None and baseline.reason is None else None
    rate, pass_ms = float(np.median(measured.rates)), float(np.median(measured.medians))
    return Timed(name, rate, pass_ms, measured.rates, ratio)
