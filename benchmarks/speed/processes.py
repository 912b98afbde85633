"""One process of many threads beside as many processes of one thread: is one process's Python the bound?"""

import json
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.aside import APART
from benchmarks.speed.figures import Ratio
from benchmarks.speed.footprint import as_users, peak_bytes
from benchmarks.speed.growth import repeated
from benchmarks.speed.turns import orders
from compressor.artifact.folder import Artifact
from compressor.artifact.manifest import MANIFEST, sha256
from compressor.core.cores import usable_cores
from compressor.core.encoder import check_whole
from compressor.core.errors import CompressorError
from compressor.core.signals import ending_at_sigterm
from compressor.core.strict_json import JsonObject, json_text
from compressor.machine.describe import describe
from compressor.texts.corpus import Texts
from exporters.session import OnnxEncoder

_BASE = 10_000  # distinct texts; they are repeated, in another order each time
ONE, AGAIN, MANY = "one process", "one process again", "many processes"


def measure(artifact: Path, source: str | None, count: int, many: int, rounds: int) -> JsonObject:
    """Return what ``stream`` makes of ``count`` texts: one process of ``many`` threads, and ``many`` of one thread.

    In turns; the first twice in each round, whose ratio is the noise. Processes have opened the artifact and seen all
    distinct texts when the clock starts, and each has its share of the texts; it stops with the last of them.
    """
    count, many, rounds = check_whole("count", count), check_whole("processes", many), check_whole("rounds", rounds)
    Artifact.open(artifact)
    texts = list(Texts(source=source).load().train[:_BASE])
    shapes = {ONE: (1, many), AGAIN: (1, many), MANY: (many, 1)}
    rates: dict[str, list[float]] = {way: [] for way in shapes}
    memory: dict[str, int] = {}
    for order in orders(list(shapes), rounds):
        for way in order:
            processes, threads = shapes[way]
            rate, peak = _turn(artifact, texts, count, processes, threads)
            rates[way].append(rate)
            memory[way] = max(peak, memory.get(way, 0))
    return {
        "artifact_sha256": sha256(artifact / MANIFEST),
        "count": count,
        "processes": many,
        "texts_per_second": {way: float(np.median(found)) for way, found in rates.items()},
        "rounds": rates,
        "peak_memory_bytes": memory,
        "gain": Ratio.of(rates[MANY], rates[ONE]).as_dict(),
        "noise": Ratio.of(rates[AGAIN], rates[ONE]).as_dict(),
        "environment": describe(),
    }


def _turn(artifact: Path, texts: Sequence[str], count: int, processes: int, threads: int) -> tuple[float, int]:
    """Return texts a second of all processes together, and the bytes of their resident sets at most, summed."""
    shares = [count * (place + 1) // processes - count * place // processes for place in range(processes)]
    with ExitStack() as opened:
        running = []
        for share in shares:
            request = {"artifact": str(artifact), "texts": texts, "count": share, "threads": threads}
            running.append(opened.enter_context(_started(request)))
        for process in running:
            _said(process, artifact)
        start = time.perf_counter()
        for process in running:
            _tell(process, "go")
        peaks = [_said(process, artifact) for process in running]
        return count / (time.perf_counter() - start), sum(peaks)


@contextmanager
def _started(request: JsonObject) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-P", "-W", "ignore", "-m", "benchmarks.speed.processes", APART]
    environment = as_users(request["threads"])
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            _tell(process, json.dumps(request))
            yield process
        finally:
            process.kill()


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _said(process: "subprocess.Popen[str]", artifact: Path) -> int:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise CompressorError(f"{artifact}: a process that streams ended with exit status {process.wait()}")
    return int(line)


def _share(request: Mapping[str, Any]) -> Iterator[int]:
    """Yield 0 when it is ready, and what it took of memory at most when its texts are done."""
    encoder = OnnxEncoder(Path(request["artifact"]), threads=request["threads"])
    encoder.encode(request["texts"])
    yield 0
    done = sum(len(block) for block in encoder.stream(repeated(request["texts"], request["count"])))
    if done != request["count"]:
        raise CompressorError(f"{request['count']:,} texts gave {done:,} vectors")
    yield peak_bytes()


def _apart() -> int:
    share = _share(json.loads(sys.stdin.readline()))
    print(next(share), flush=True)
    sys.stdin.readline()
    print(next(share), flush=True)
    return 0


def main(arguments: list[str]) -> int:
    """Read the command line, print the figures; return the exit status."""
    parser = ArgumentParser(prog="python -m benchmarks.speed.processes", description=measure.__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("count", type=int, help="texts of a turn, as 200000")
    parser.add_argument("--texts", default=None, help="text file or data set; by default docstrings")
    parser.add_argument("--processes", type=int, default=usable_cores(), help="by default as many as cores")
    parser.add_argument("--rounds", type=int, default=6)
    try:
        if arguments == [APART]:
            return _apart()
        given = parser.parse_args(arguments)
        with ending_at_sigterm():  # what runs apart ends with it
            figures = measure(given.artifact, given.texts, given.count, given.processes, given.rounds)
    except CompressorError as error:
        print(error, file=sys.stderr)
        return 1
    print(json_text(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
