"""What files and folders cost: texts embedded into a folder, against the same texts streamed and dropped."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.aside import APART, harness, in_a_process
from benchmarks.speed.footprint import peak_bytes
from benchmarks.speed.growth import repeated
from compressor.artifact.folder import Artifact
from compressor.core.encoder import check_whole
from compressor.core.errors import CompressorError
from compressor.core.strict_json import JsonObject
from compressor.machine.describe import describe
from compressor.texts.corpus import Texts
from exporters.embedding.run import embed
from exporters.session import OnnxEncoder

_BASE = 10_000  # distinct texts; they are repeated, in another order each time


@dataclass(frozen=True)
class Timed:
    """One way over all texts, in a process of its own, from opening the artifact to the last vector."""

    texts_per_second: float
    cpu_seconds: float
    """Of all threads: on a machine that others use, too, it says more than the rate."""
    peak_memory_bytes: int

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return asdict(self)


def compare(artifact: Path, source: str | None, counts: Sequence[int], rounds: int, options: dict[str, Any]) -> Any:
    """Return rates and peak memory of both ways at each count, in turns, and the ratio of the rates in each round."""
    counts, rounds = [check_whole("counts", count) for count in counts], check_whole("rounds", rounds)
    Artifact.open(artifact)
    texts = list(Texts(source=source).load().train[:_BASE])
    rows = []
    with tempfile.TemporaryDirectory() as aside:
        for count in counts:
            path = Path(aside) / f"{count}.txt"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(f"{' '.join(text.split())}\n" for text in repeated(texts, count))
            pairs = [_both(artifact, path, count, options, number % 2 == 1) for number in range(rounds)]
            rows.append(_row(count, pairs))
            path.unlink()
    return {"artifact": str(artifact), "options": options, "rows": rows, "environment": describe()}


def _row(count: int, pairs: Sequence[tuple[Timed, Timed]]) -> JsonObject:
    ratios = [embedded.texts_per_second / streamed.texts_per_second for streamed, embedded in pairs]
    busy = [embedded.cpu_seconds / streamed.cpu_seconds for streamed, embedded in pairs]
    return {
        "count": count,
        "stream": [streamed.as_dict() for streamed, _ in pairs],
        "embed": [embedded.as_dict() for _, embedded in pairs],
        "ratios": ratios,
        "ratio": float(np.median(ratios)),
        "cpu_ratio": float(np.median(busy)),
    }


def _both(artifact: Path, texts: Path, count: int, options: dict[str, Any], turned: bool) -> tuple[Timed, Timed]:
    found = {}
    for way in ("embed", "stream") if turned else ("stream", "embed"):
        with tempfile.TemporaryDirectory(dir=texts.parent) as to:
            request = {"way": way, "artifact": str(artifact), "texts": str(texts), "out": to, "options": options}
            found[way] = _in_a_process(request | {"count": count})
    return found["stream"], found["embed"]


def _in_a_process(request: JsonObject) -> Timed:
    failed = f"{request['artifact']}: {request['way']} could not be timed"
    return Timed(**in_a_process("benchmarks.speed.embedding", request, None, failed, APART))


def _timed(request: JsonObject) -> Timed:
    start, busy = time.perf_counter(), time.process_time()
    if request["way"] == "embed":
        rows = embed(request["artifact"], request["texts"], request["out"], **request["options"]).rows
    else:
        encoder = OnnxEncoder(request["artifact"])
        with open(request["texts"], encoding="utf-8") as file:
            rows = sum(map(len, encoder.stream(line.rstrip("\n") for line in file)))
    lasted = time.perf_counter() - start
    if rows != request["count"]:
        raise CompressorError(f"{request['count']:,} texts gave {rows:,} rows")
    return Timed(rows / lasted, time.process_time() - busy, peak_bytes())


def main(arguments: list[str]) -> int:
    """Read the command line, print the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.embedding", description=compare.__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("counts", type=int, nargs="+", help="texts, as 100000 1000000")
    parser.add_argument("--texts", default=None, help="text file or data set; by default docstrings")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", type=json.loads, default={}, help='of embed, in JSON: {"precision": "int8"}')
    return harness(
        arguments,
        parser,
        lambda request: _timed(request).as_dict(),
        lambda given: compare(given.artifact, given.texts, given.counts, given.rounds, given.options),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
