"""Does an artifact stay as fast and as small as its items grow in number? Each count in a process of its own."""

import itertools
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from benchmarks.speed.aside import in_a_process
from benchmarks.speed.figures import rate_name
from benchmarks.speed.footprint import peak_bytes
from compressor.artifact.folder import key_of, sha256
from compressor.artifact.layout import GRAPH
from compressor.artifact.workspace import Key, stage_key
from compressor.core.config import Config
from compressor.core.errors import CompressorError, guarded
from compressor.core.progress import say, track
from compressor.core.strict_json import JsonObject
from compressor.machine.describe import features
from exporters.runtime.providers import CPU
from exporters.tasks import Item, task_in
from exporters.tasks.base import threads_of

SLACK = 0.05
_BASE = 10_000  # texts that are repeated, in another order each time


@dataclass(frozen=True)
class Run:
    """One count, streamed once."""

    count: int
    rate: float
    """Items a second."""
    peak_memory_bytes: int
    """Of the whole process's resident set, interpreter and libraries included."""
    threads: int

    def as_dict(self, unit: str) -> JsonObject:
        """Return it as JSON has it."""
        figures = {rate_name(unit): self.rate, "peak_memory_bytes": self.peak_memory_bytes}
        return {"count": self.count, **figures, "threads": self.threads}

    @classmethod
    def read(cls, stated: Mapping[str, Any], unit: str) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(stated["count"], stated[rate_name(unit)], stated["peak_memory_bytes"], stated["threads"])


@dataclass(frozen=True)
class Row:
    """All runs of one count: the median of their rates, the highest of their peaks."""

    count: int
    runs: int
    rate: float
    peak_memory_bytes: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Self:
        """Take the runs of a count together."""
        rate = float(np.median([run.rate for run in runs]))
        return cls(runs[0].count, len(runs), rate, max(run.peak_memory_bytes for run in runs))

    def as_dict(self, unit: str) -> JsonObject:
        """Return it as JSON has it."""
        figures = {rate_name(unit): self.rate, "peak_memory_bytes": self.peak_memory_bytes}
        return {"count": self.count, "runs": self.runs, **figures}


@dataclass(frozen=True)
class Grown:
    """All runs, and whether speed and memory stay as they were."""

    unit: str
    runs: Sequence[Run]

    @property
    def rows(self) -> list[Row]:
        """Return a row a count, the smallest first."""
        counts = sorted({run.count for run in self.runs})
        return [Row.of([run for run in self.runs if run.count == count]) for count in counts]

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it, with the largest count's figures over the smallest's."""
        rows = self.rows
        first, last = rows[0], rows[-1]
        speed, memory = last.rate / first.rate, last.peak_memory_bytes / first.peak_memory_bytes
        return {
            "unit": self.unit,
            "rows": [row.as_dict(self.unit) for row in rows],
            "speed_ratio": speed,
            "memory_ratio": memory,
            "tolerance": SLACK,
            "holds": abs(speed - 1) <= SLACK and memory <= 1 + SLACK,
            "runs": [run.as_dict(self.unit) for run in self.runs],
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(stated["unit"], [Run.read(run, stated["unit"]) for run in stated["runs"]])


class Growth(Config):
    """Stream ever more texts or questions through an artifact."""

    counts: Annotated[tuple[Annotated[int, Field(ge=1000)], ...], Field(min_length=2)] = (10_000, 100_000, 1_000_000)
    """Numbers of texts or questions. Those below the largest are streamed before and after it, so that a machine that
    slows down does not look like growth."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts, or windows of questions, in a batch."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads; by default all cores of the machine."""

    def decided_here(self) -> list[str]:
        return features()

    def measure(
        self,
        folder: Path,
        items: Sequence[Item],
        done: Sequence[Run] = (),
        keep: Callable[[list[Run]], None] = lambda _: None,
    ) -> Grown:
        """Return throughput and peak memory of each count.

        Goes on after the runs ``done``, and gives ``keep`` all runs so far after each. A run is timed after a pass over
        the distinct items.
        """
        base, runs, unit = list(items[:_BASE]), list(done), task_in(folder).unit
        for count in self.order()[len(runs) :]:
            runs.append(_in_a_process(folder, base, count, self.batch_size, self.threads))
            megabytes = runs[-1].peak_memory_bytes / 1e6
            say(f"  {count:,} {unit}: {runs[-1].rate:,.0f} a second, {megabytes:,.0f} MB at most")
            keep(runs)
        return Grown(unit, runs)

    def order(self) -> list[int]:
        """List the counts of all runs in turn; the smallest, which are the shortest, three times on either side."""
        *smaller, largest = sorted(self.counts)
        before = [count for count in smaller for _ in range(3 if count * 20 <= largest else 1)]
        return [*before, largest, *reversed(before)]

    def key(self, folder: Path, items: Sequence[Item]) -> str:
        """Identify a measurement, so that one that was stopped goes on where it was."""
        return stage_key("growth", self, [Key(sha256(folder / GRAPH)), Key(key_of(list(items[:_BASE])))])


def repeated(items: Sequence[Item], count: int) -> Iterator[Item]:
    """Yield ``count`` items: all of ``items`` again and again, each time in another order; the same in each process."""
    return itertools.islice(_for_ever(items), count)


def _for_ever(items: Sequence[Item]) -> Iterator[Item]:
    source, order = random.Random(0), list(range(len(items)))
    while True:
        source.shuffle(order)
        yield from (items[i] for i in order)


def _in_a_process(folder: Path, items: Sequence[Item], count: int, batch_size: int, threads: int | None) -> Run:
    unit = task_in(folder).unit
    request = {"folder": str(folder), "items": items, "count": count, "batch_size": batch_size, "threads": threads}
    failed = f"{folder}: {count:,} {unit} could not be streamed"
    return Run.read(in_a_process("benchmarks.speed.growth", request, threads, failed), unit)


def _stream(request: Mapping[str, Any]) -> JsonObject:
    """Stream the items; results are dropped as they come."""
    folder, count, size = Path(request["folder"]), request["count"], request["batch_size"]
    items = [tuple(item) if isinstance(item, list) else item for item in request["items"]]  # JSON has no pairs
    task = task_in(folder)
    runner = task.open(folder, "onnx", CPU, request["threads"])
    runner.encode(items, size)  # warm-up: its words are known then, to a small run as to a large one
    start, done = time.perf_counter(), 0
    with track(f"{count:,} {task.unit}", count) as advance:
        for some in task.stream(runner, repeated(items, count), size):
            done += some
            advance(some)
    lasted = time.perf_counter() - start
    if done != count:
        raise CompressorError(f"{count:,} {task.unit} gave {done:,} results")
    return Run(count, count / lasted, peak_bytes(), threads_of(runner)).as_dict(task.unit)


def _main() -> None:
    print(json.dumps(_stream(json.load(sys.stdin))))


if __name__ == "__main__":
    sys.exit(guarded(_main))
