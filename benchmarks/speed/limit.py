"""How near an artifact comes to what the machine can do, and where the time goes instead."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from benchmarks.speed import throughput
from benchmarks.speed.figures import rate_name
from benchmarks.speed.throughput import rate
from compressor.core.config import Config
from compressor.core.progress import say, track
from compressor.core.strict_json import JsonObject
from compressor.machine.peaks import measure_peaks
from exporters.runtime.profile import INT8_OPERATORS, Operator, profile
from exporters.runtime.providers import CPU
from exporters.tasks import Item, Runner, Task, task_in
from exporters.tasks.base import threads_of

_PEAKS = {"fp32": "fp32_gflops", "int8": "int8_gops"}


@dataclass(frozen=True)
class OperatorShare:
    """What an operator takes of a graph's time on one thread, and reaches of what a thread could do."""

    operator: str
    nodes: int
    ms: float
    share: float
    """Of the time of all operators."""
    gops: float | None = None
    """Billions of operations a second; None for an operator that multiplies no matrices."""
    of_peak: float | None = None
    """Share of a thread's peak in the operator's precision."""

    @classmethod
    def of(cls, operator: Operator, whole: float, peaks: Mapping[str, float], threads: int) -> Self:
        """Take the share of ``whole`` seconds, and hold the rate against a thread's part of the ``peaks``."""
        taken = operator.name, operator.nodes, 1000 * operator.seconds, operator.seconds / whole
        if not operator.operations or not operator.seconds:  # ONNX Runtime counts whole microseconds
            return cls(*taken)
        gops = operator.operations / operator.seconds / 1e9
        peak = peaks[_PEAKS["int8" if operator.name in INT8_OPERATORS else "fp32"]]
        return cls(*taken, gops, gops / (peak / threads))

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it, without what it does not reach."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(**stated)


@dataclass(frozen=True)
class ReachedAt:
    """What an artifact reaches of the machine's peak at one length."""

    tokens: int
    batch_size: int
    rate: float
    """Items a second."""
    operations: float
    """Of one item."""
    operators: Sequence[OperatorShare]
    """The longest first."""
    gops: float
    """Billions of operations a second."""
    of_peak: Mapping[str, float]
    """The share of the peak, by the precision that the graph multiplies in."""

    def as_dict(self, unit: str) -> JsonObject:
        """Return it as JSON has it."""
        return {
            "tokens": self.tokens,
            "batch_size": self.batch_size,
            rate_name(unit): self.rate,
            _operations_name(unit): self.operations,
            "operators": [operator.as_dict() for operator in self.operators],
            "gops": self.gops,
            "of_peak": dict(self.of_peak),
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any], unit: str) -> Self:
        """Read what ``as_dict`` wrote."""
        operators = [OperatorShare.read(operator) for operator in stated["operators"]]
        speed = stated["tokens"], stated["batch_size"], stated[rate_name(unit)], stated[_operations_name(unit)]
        return cls(*speed, operators, stated["gops"], stated["of_peak"])


@dataclass(frozen=True)
class Reached:
    """What an artifact reaches of the machine's peaks: the ``limit`` section of results."""

    unit: str
    threads: int
    peaks: Mapping[str, float]
    """Billions of operations a second on all threads, by the name that ``measure_peaks`` gives them."""
    by_length: Sequence[ReachedAt]

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        rows = [row.as_dict(self.unit) for row in self.by_length]
        return {"unit": self.unit, "threads": self.threads, "peaks": dict(self.peaks), "by_length": rows}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        unit = stated["unit"]
        rows = [ReachedAt.read(row, unit) for row in stated["by_length"]]
        return cls(unit, stated["threads"], stated["peaks"], rows)


@dataclass(frozen=True)
class _Run:
    """What was measured at one length."""

    tokens: int
    batch_size: int
    rate: float
    rows: int
    """Items, or windows, that were profiled in one batch."""
    operators: Sequence[Operator]

    def against(self, peaks: Mapping[str, float], threads: int) -> ReachedAt:
        """Hold it against the peaks."""
        operations = sum(operator.operations for operator in self.operators) / self.rows
        whole = sum(operator.seconds for operator in self.operators)
        precision = "int8" if any(operator.name in INT8_OPERATORS for operator in self.operators) else "fp32"
        gops = operations * self.rate / 1e9
        shares = [OperatorShare.of(operator, whole, peaks, threads) for operator in self.operators]
        of_peak = {precision: gops / peaks[_PEAKS[precision]]}
        return ReachedAt(self.tokens, self.batch_size, self.rate, operations, shares, gops, of_peak)


class Limit(Config):
    """Measure the share of the machine's peak that an artifact reaches, and the time of each operator."""

    lengths: tuple[Annotated[int, Field(ge=8)], ...] = (16, 64, 128, 256)
    """Text lengths, in tokens; lengths above the model's are left out."""
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (8, 32)
    """Batch sizes tried at each length; the best is measured, and profiled."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the artifact, and of the products that give the peak; by default all cores of the machine."""

    def measure(self, folder: Path, items: Sequence[Item]) -> Reached:
        """Return peaks and, a length, rates, shares of the peaks and operators; ``items`` are cut to the lengths.

        Text in, vectors or answers out, as users have it; the operators' times are of the graph alone, on one thread.
        The peaks are measured before and after, and the higher ones count. A graph is held against the peak of the
        precision that it multiplies in: to reach more than the fp32 peak says nothing of one that multiplies int8.
        """
        task = task_in(folder)
        runner, tokenizer = task.open(folder, "onnx", CPU, self.threads), task.tokenizer(folder)
        threads = threads_of(runner)
        lengths = [length for length in self.lengths if length <= runner.max_length]
        say(f"  share of the peak at {', '.join(map(str, lengths))} tokens")
        before = measure_peaks(throughput.TURN_SECONDS / 2, threads)
        with track("limit", len(lengths) * len(self.batch_sizes), "turns") as advance:
            by_length = [(length, task.of_length(tokenizer, items, length)) for length in lengths]
            runs = [self._at(task, folder, runner, length, cut, advance) for length, cut in by_length]
        after = measure_peaks(throughput.TURN_SECONDS / 2, threads)
        peaks = {name: max(before[name], after[name]) for name in before}
        return Reached(task.unit, threads, peaks, [run.against(peaks, threads) for run in runs])

    def _at(self, task: Task, folder: Path, runner: Runner, length: int, items: Sequence[Item], advance: Any) -> _Run:
        rates = {}
        for size in self.batch_sizes:
            rates[size] = float(np.median([rate(runner, items, size, throughput.TURN_SECONDS / 2) for _ in range(3)]))
            advance(1)
        best = max(rates, key=rates.__getitem__)
        feeds = task.feeds(runner, items[:best])
        return _Run(length, best, rates[best], len(feeds["input_ids"]), profile(folder, feeds))


def _operations_name(unit: str) -> str:
    return f"operations_per_{unit[:-1]}"
