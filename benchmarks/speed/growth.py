"""Does an artifact stay as fast and as small as its items grow in number? Each count in a process of its own."""

import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from benchmarks.speed.footprint import as_users, peak_bytes
from benchmarks.systems import threads_of
from compressor.artifact.folder import key_of, sha256
from compressor.artifact.layout import GRAPH
from compressor.artifact.workspace import Key, stage_key
from compressor.core.config import Config
from compressor.core.errors import CompressorError, guarded
from compressor.core.progress import say, track
from compressor.machine.describe import features
from exporters.runtime.providers import CPU
from exporters.tasks import Item, task_in

Run = Mapping[str, Any]
SLACK = 0.05
_BASE = 10_000  # texts that are repeated, in another order each time


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
    ) -> dict[str, Any]:
        """Return throughput and peak memory of each count.

        Goes on after the runs ``done``, and gives ``keep`` all runs so far after each. A run is timed after a pass over
        the distinct items. Peak memory is the whole process's resident set, interpreter and libraries included.
        """
        base, runs, unit = list(items[:_BASE]), list(done), task_in(folder).unit
        for count in self.order()[len(runs) :]:
            runs.append(_in_a_process(folder, base, count, self.batch_size, self.threads))
            say(f"  {count:,} {unit}: {runs[-1][f'{unit}_per_second']:,.0f} a second, {_megabytes(runs[-1])} at most")
            keep(runs)
        return summary(runs, unit)

    def order(self) -> list[int]:
        """List the counts of all runs in turn; the smallest, which are the shortest, three times on either side."""
        *smaller, largest = sorted(self.counts)
        before = [count for count in smaller for _ in range(3 if count * 20 <= largest else 1)]
        return [*before, largest, *reversed(before)]

    def key(self, folder: Path, items: Sequence[Item]) -> str:
        """Identify a measurement, so that one that was stopped goes on where it was."""
        return stage_key("growth", self, [Key(sha256(folder / GRAPH)), Key(key_of(list(items[:_BASE])))])


def summary(runs: Sequence[Run], unit: str = "texts") -> dict[str, Any]:
    """Return a row a count, the largest's rate over the smallest's, and whether both stay as they were."""
    rows, rate = [], f"{unit}_per_second"
    for count in sorted({run["count"] for run in runs}):
        own = [run for run in runs if run["count"] == count]
        rows.append(
            {
                "count": count,
                "runs": len(own),
                rate: float(np.median([run[rate] for run in own])),
                "peak_memory_bytes": max(run["peak_memory_bytes"] for run in own),
            }
        )
    speed, memory = (rows[-1][name] / rows[0][name] for name in (rate, "peak_memory_bytes"))
    return {
        "unit": unit,
        "rows": rows,
        "speed_ratio": speed,
        "memory_ratio": memory,
        "tolerance": SLACK,
        "holds": abs(speed - 1) <= SLACK and memory <= 1 + SLACK,
        "runs": list(runs),
    }


def repeated(items: Sequence[Item], count: int) -> Iterator[Item]:
    """Yield ``count`` items: all of ``items`` again and again, each time in another order; the same in each process."""
    return itertools.islice(_for_ever(items), count)


def _for_ever(items: Sequence[Item]) -> Iterator[Item]:
    source, order = random.Random(0), list(range(len(items)))
    while True:
        source.shuffle(order)
        yield from (items[i] for i in order)


def _megabytes(run: Run) -> str:
    return f"{run['peak_memory_bytes'] / 1e6:,.0f} MB"


def _in_a_process(folder: Path, items: Sequence[Item], count: int, batch_size: int, threads: int | None) -> Run:
    request = {"folder": str(folder), "items": items, "count": count, "batch_size": batch_size, "threads": threads}
    command = [sys.executable, "-P", "-W", "ignore", "-m", "benchmarks.speed.growth"]
    done = subprocess.run(
        command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=False, env=as_users(threads)
    )
    if done.returncode:
        unit = task_in(folder).unit
        raise CompressorError(f"{folder}: {count:,} {unit} could not be streamed: exit status {done.returncode}")
    return json.loads(done.stdout)


def _stream(request: Mapping[str, Any]) -> Run:
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
    figures = {f"{task.unit}_per_second": count / lasted, "peak_memory_bytes": peak_bytes()}
    return {"count": count, **figures, "threads": threads_of(runner)}


def _main() -> None:
    print(json.dumps(_stream(json.load(sys.stdin))))


if __name__ == "__main__":
    sys.exit(guarded(_main))
