"""How near an artifact comes to what the machine can do, and where the time goes instead."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from benchmarks.speed import throughput
from benchmarks.speed.throughput import rate
from benchmarks.systems import threads_of
from compressor.core.config import Config
from compressor.core.progress import say, track
from compressor.machine.describe import bf16_is_fast
from compressor.machine.peaks import measure_peaks
from exporters.runtime.profile import INT8_OPERATORS, Operator, profile
from exporters.runtime.providers import CPU
from exporters.tasks import Item, Runner, Task, task_in

_PEAKS = {"fp32": "fp32_gflops", "int8": "int8_gops"}


class Limit(Config):
    """Measure the share of the machine's peak that an artifact reaches, and the time of each operator."""

    lengths: tuple[Annotated[int, Field(ge=8)], ...] = (16, 64, 128, 256)
    """Text lengths, in tokens; lengths above the model's are left out."""
    batch_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (8, 32)
    """Batch sizes tried at each length; the best is measured, and profiled."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the artifact, and of the products that give the peak; by default all cores of the machine."""

    def measure(self, folder: Path, items: Sequence[Item]) -> dict[str, Any]:
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
            rows = [self._at(task, folder, runner, length, cut, advance) for length, cut in by_length]
        after = measure_peaks(throughput.TURN_SECONDS / 2, threads)
        peaks = {name: max(before[name], after[name]) for name in before if name != "bf16_gflops" or bf16_is_fast()}
        shares = [_shares(row, peaks, threads, task.unit) for row in rows]
        return {"unit": task.unit, "threads": threads, "peaks": peaks, "by_length": shares}

    def _at(
        self, task: Task, folder: Path, runner: Runner, length: int, items: Sequence[Item], advance: Any
    ) -> dict[str, Any]:
        rates = {}
        for size in self.batch_sizes:
            rates[size] = float(np.median([rate(runner, items, size, throughput.TURN_SECONDS / 2) for _ in range(3)]))
            advance(1)
        best = max(rates, key=rates.__getitem__)
        feeds = task.feeds(runner, items[:best])
        operators = profile(folder, feeds)
        operations = sum(operator.operations for operator in operators) / len(feeds["input_ids"])
        return {
            "tokens": length,
            "batch_size": best,
            f"{task.unit}_per_second": rates[best],
            f"operations_per_{task.unit[:-1]}": operations,
            "operators": operators,
        }


def _shares(row: Mapping[str, Any], peaks: Mapping[str, float], threads: int, unit: str) -> dict[str, Any]:
    reached = row[f"operations_per_{unit[:-1]}"] * row[f"{unit}_per_second"] / 1e9
    operators: Sequence[Operator] = row["operators"]
    whole = sum(operator.seconds for operator in operators)
    precision = "int8" if any(operator.name in INT8_OPERATORS for operator in operators) else "fp32"
    return {
        **row,
        "gops": reached,
        "of_peak": {precision: reached / peaks[_PEAKS[precision]]},
        "operators": [
            {
                "operator": operator.name,
                "nodes": operator.nodes,
                "ms": 1000 * operator.seconds,
                "share": operator.seconds / whole,
                **_reached(operator, peaks, threads),
            }
            for operator in operators
        ],
    }


def _reached(operator: Operator, peaks: Mapping[str, float], threads: int) -> dict[str, float]:
    """Return an operator's rate on its one thread, and its share of what a thread could do in its precision."""
    if not operator.operations or not operator.seconds:  # ONNX Runtime counts whole microseconds
        return {}
    rate = operator.operations / operator.seconds / 1e9
    peak = peaks[_PEAKS["int8" if operator.name in INT8_OPERATORS else "fp32"]]
    return {"gops": rate, "of_peak": rate / (peak / threads)}
