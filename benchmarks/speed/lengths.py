"""Time and memory of one text or question by its length: each length of each system in processes of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from benchmarks.speed.figures import Ratio
from benchmarks.speed.footprint import as_users, peak_bytes
from benchmarks.systems import System, check_names
from compressor.core.config import Config
from compressor.core.cores import usable_cores
from compressor.core.errors import RecipeError, guarded
from compressor.core.figures import Figures
from compressor.core.progress import say
from compressor.core.strict_json import JsonObject
from exporters.tasks import Item

_MOST_RUNS, _MOST_SECONDS = 5, 10.0  # of a process, behind one that is not timed: no more once so long has gone by


@dataclass(frozen=True)
class Run(Figures):
    """One process: how long an item took, and the memory of all of it, interpreter and libraries included."""

    seconds: float
    peak_memory_bytes: int
    failed: str = ""
    """Why there are no figures: as a rule, that memory was not enough."""


@dataclass(frozen=True)
class Row:
    """A system at one length; the ratio is to the first system, round by round."""

    label: str
    tokens: int
    runs: Sequence[Run]
    ratio: Ratio | None

    @classmethod
    def of(cls, label: str, tokens: int, runs: Sequence[Run], base: Sequence[Run]) -> Self:
        """Take the runs of a length together."""
        whole = not any(run.failed for run in (*runs, *base))
        ratio = Ratio.of([1 / run.seconds for run in runs], [1 / run.seconds for run in base]) if whole else None
        return cls(label, tokens, runs, ratio)

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it; a length that failed has its reason in the place of figures."""
        row: JsonObject = {"label": self.label, "tokens": self.tokens}
        if failed := next((run.failed for run in self.runs if run.failed), ""):
            return row | {"failed": failed}
        seconds = float(np.median([run.seconds for run in self.runs]))
        row |= {"ms": 1e3 * seconds, "peak_memory_bytes": max(run.peak_memory_bytes for run in self.runs)}
        row["rounds"] = [{"ms": 1e3 * r.seconds, "peak_memory_bytes": r.peak_memory_bytes} for r in self.runs]
        return row | (self.ratio.as_dict() if self.ratio else {})


@dataclass(frozen=True)
class ByLength:
    """All rows, by length and then by system."""

    unit: str
    threads: int
    rows: Sequence[Row]

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return {"unit": self.unit, "threads": self.threads, "rows": [row.as_dict() for row in self.rows]}


class Lengths(Config):
    """Compute one text or question at a time, ever longer ones."""

    lengths: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(min_length=1)] = (512, 2048, 8192)
    """Lengths in tokens, at most what every system reads."""
    rounds: Annotated[int, Field(ge=1)] = 2
    """Times that each is measured, the systems taking turns."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads; by default all cores of the machine."""

    def measure(self, systems: Sequence[System], items: Sequence[Item], limit: int) -> ByLength:
        """Return time and peak memory of each system at each length; RecipeError for one beyond the ``limit``, and for
        two systems of one label, by which rows are told apart."""
        check_names([system.label for system in systems])
        if beyond := [length for length in self.lengths if length > limit]:
            raise RecipeError(f"lengths = {list(self.lengths)}: {beyond[0]} is above {limit}, what all systems read")
        task, threads = systems[-1].does, self.threads or usable_cores()
        tokenizer = task.tokenizer(Path(systems[-1].folder))
        rows = list[Row]()
        for tokens in sorted(set(self.lengths)):
            [item] = task.of_length(tokenizer, items, tokens, 1)
            runs = {system.label: list[Run]() for system in systems}
            for _ in range(self.rounds):
                for system in systems:
                    runs[system.label].append(run := _in_a_process(system, item, threads))
                    figures = run.failed or f"{1e3 * run.seconds:,.0f} ms, {run.peak_memory_bytes / 1e6:,.0f} MB"
                    say(f"  {tokens:,} tokens, {system.label}: {figures}")
            rows += [Row.of(label, tokens, found, runs[systems[0].label]) for label, found in runs.items()]
        return ByLength(task.unit, threads, rows)


def _in_a_process(system: System, item: Item, threads: int) -> Run:
    request = json.dumps({"system": system.as_json(), "item": item, "threads": threads})
    command = [sys.executable, "-P", "-W", "ignore", "-m", "benchmarks.speed.lengths"]
    env = as_users(threads)
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        killed = "killed, as when memory is not enough" if done.returncode < 0 else f"exit status {done.returncode}"
        return Run(0.0, 0, last or killed)
    return Run.read(json.loads(done.stdout.strip().splitlines()[-1]))


def _timed(request: Mapping[str, Any]) -> Run:
    stated = json.loads(request["system"])
    runner, item = System(**stated | {"threads": request["threads"]}).open(), request["item"]
    items = [tuple(item) if isinstance(item, list) else item]  # JSON has no pairs
    runner.encode(items, 1)
    seconds = list(_seconds(runner, items))
    return Run(float(np.median(seconds)), peak_bytes())


def _seconds(runner: Any, items: Sequence[Item]) -> Iterator[float]:
    whole = 0.0
    for _ in range(_MOST_RUNS):
        start = time.perf_counter()
        runner.encode(items, 1)
        yield (lasted := time.perf_counter() - start)
        if (whole := whole + lasted) > _MOST_SECONDS:
            break


def _main() -> None:
    print(json.dumps(_timed(json.load(sys.stdin)).as_dict()))


if __name__ == "__main__":
    sys.exit(guarded(_main))
