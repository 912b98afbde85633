"""Does an artifact stay as fast and as small as its texts grow in number? Each count in a process of its own."""

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
from compressor.artifact.folder import key_of, sha256
from compressor.artifact.layout import GRAPH
from compressor.artifact.workspace import Key, stage_key
from compressor.core.config import Config
from compressor.core.errors import CompressorError, guarded
from compressor.core.progress import say, track
from compressor.machine.describe import features
from exporters.session import OnnxEncoder

Run = Mapping[str, Any]
SLACK = 0.05
_BASE = 10_000  # texts that are repeated, in another order each time


class Growth(Config):
    """Stream ever more texts through an artifact."""

    counts: Annotated[tuple[Annotated[int, Field(ge=1000)], ...], Field(min_length=2)] = (10_000, 100_000, 1_000_000)
    """Numbers of texts. Those below the largest are streamed before and after it, so that a machine that slows down
    does not look like growth."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts in a batch."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads; by default all cores of the machine."""

    def decided_here(self) -> list[str]:
        return features()

    def measure(
        self,
        folder: Path,
        texts: Sequence[str],
        done: Sequence[Run] = (),
        keep: Callable[[list[Run]], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Return throughput and peak memory of each count.

        Goes on after the runs ``done``, and gives ``keep`` all runs so far after each. A run is timed after a pass over
        the distinct texts. Peak memory is the whole process's resident set, interpreter and libraries included.
        """
        base, runs = list(texts[:_BASE]), list(done)
        for count in self.order()[len(runs) :]:
            runs.append(_in_a_process(folder, base, count, self.batch_size, self.threads))
            say(f"  {count:,} texts: {runs[-1]['texts_per_second']:,.0f} a second, {_megabytes(runs[-1])} at most")
            keep(runs)
        return summary(runs)

    def order(self) -> list[int]:
        """List the counts of all runs in turn; the smallest, which are the shortest, three times on either side."""
        *smaller, largest = sorted(self.counts)
        before = [count for count in smaller for _ in range(3 if count * 20 <= largest else 1)]
        return [*before, largest, *reversed(before)]

    def key(self, folder: Path, texts: Sequence[str]) -> str:
        """Identify a measurement, so that one that was stopped goes on where it was."""
        return stage_key("growth", self, [Key(sha256(folder / GRAPH)), Key(key_of(list(texts[:_BASE])))])


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Return a row a count, the largest's rate over the smallest's, and whether both stay as they were."""
    rows = []
    for count in sorted({run["count"] for run in runs}):
        own = [run for run in runs if run["count"] == count]
        rows.append(
            {
                "count": count,
                "runs": len(own),
                "texts_per_second": float(np.median([run["texts_per_second"] for run in own])),
                "peak_memory_bytes": max(run["peak_memory_bytes"] for run in own),
            }
        )
    speed, memory = (rows[-1][name] / rows[0][name] for name in ("texts_per_second", "peak_memory_bytes"))
    return {
        "rows": rows,
        "speed_ratio": speed,
        "memory_ratio": memory,
        "tolerance": SLACK,
        "holds": abs(speed - 1) <= SLACK and memory <= 1 + SLACK,
        "runs": list(runs),
    }


def repeated(texts: Sequence[str], count: int) -> Iterator[str]:
    """Yield ``count`` texts: all of ``texts`` again and again, each time in another order; the same in each process."""
    return itertools.islice(_for_ever(texts), count)


def _for_ever(texts: Sequence[str]) -> Iterator[str]:
    source, order = random.Random(0), list(range(len(texts)))
    while True:
        source.shuffle(order)
        yield from (texts[i] for i in order)


def _megabytes(run: Run) -> str:
    return f"{run['peak_memory_bytes'] / 1e6:,.0f} MB"


def _in_a_process(folder: Path, texts: Sequence[str], count: int, batch_size: int, threads: int | None) -> Run:
    request = {"folder": str(folder), "texts": texts, "count": count, "batch_size": batch_size, "threads": threads}
    command = [sys.executable, "-P", "-W", "ignore", "-m", "benchmarks.speed.growth"]
    done = subprocess.run(
        command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=False, env=as_users(threads)
    )
    if done.returncode:
        raise CompressorError(f"{folder}: {count:,} texts could not be streamed: exit status {done.returncode}")
    return json.loads(done.stdout)


def _stream(request: Mapping[str, Any]) -> Run:
    """Stream the texts; vectors are dropped as they come."""
    texts, count = request["texts"], request["count"]
    encoder = OnnxEncoder(request["folder"], threads=request["threads"])
    encoder.encode(texts, request["batch_size"])  # warm-up: its words are known then, to a small run as to a large one
    start, rows = time.perf_counter(), 0
    with track(f"{count:,} texts", count) as advance:
        for block in encoder.stream(repeated(texts, count), request["batch_size"]):
            rows += len(block)
            advance(len(block))
    lasted = time.perf_counter() - start
    if rows != count:
        raise CompressorError(f"{count:,} texts gave {rows:,} vectors")
    speed, memory = count / lasted, peak_bytes()
    return {"count": count, "texts_per_second": speed, "peak_memory_bytes": memory, "threads": encoder.threads}


def _main() -> None:
    print(json.dumps(_stream(json.load(sys.stdin))))


if __name__ == "__main__":
    sys.exit(guarded(_main))
