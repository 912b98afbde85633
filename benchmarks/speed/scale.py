"""What very many texts take: each part of the way on one core, and what workers of a cluster gain, from real files."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.aside import APART, harness, in_a_process
from benchmarks.speed.growth import repeated
from compressor.artifact.folder import Artifact
from compressor.artifact.manifest import MANIFEST, sha256
from compressor.core.encoder import check_whole
from compressor.core.errors import CompressorError
from compressor.core.strict_json import JsonObject
from compressor.machine.cluster import Cluster, connected
from compressor.machine.describe import describe
from compressor.texts.corpus import Texts
from compressor.texts.rows.find import open_rows
from compressor.texts.rows.plan import Cursor, Plan, Shard
from exporters.embedding.files import ParquetFiles
from exporters.embedding.rows import Columns, Rows
from exporters.embedding.run import embed
from exporters.session import OnnxEncoder

_BASE = 10_000  # distinct texts; they are repeated, in another order each time
_SHARD = 65_536
_PIECE = 4096
PARTS = ("read", "tokenize", "write", "embed")


def measure(artifact: Path, source: str | None, count: int, workers: Sequence[int], rounds: int) -> Any:
    """Return texts a second of each part and of each number of workers, in every round, each in a process of its own.

    ``write`` is of vectors that are there, into Parquet; ``embed`` is all of it, with one thread that computes, and
    reading and writing beside it. Of parts also the core-seconds a million texts. Workers have one thread each, on a
    Ray cluster of this machine: its start and end count, and ``once_started`` leaves them out, as where it is there.
    """
    count, rounds = check_whole("count", count), check_whole("rounds", rounds)
    workers = [check_whole("workers", many) for many in workers]
    Artifact.open(artifact)
    texts = list(Texts(source=source).load().train[:_BASE])
    ways = [*PARTS, *map(str, workers)]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    busy: dict[str, list[float]] = {part: [] for part in PARTS}
    started: dict[str, list[float]] = {str(many): [] for many in workers}
    with tempfile.TemporaryDirectory() as aside:
        path = Path(aside) / "texts.jsonl"
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in repeated(texts, count))
        for number in range(rounds):
            for way in ways if number % 2 == 0 else ways[::-1]:
                request = {"way": way, "artifact": str(artifact), "texts": str(path), "count": count}
                rate, other = _in_a_process(request, aside)
                rates[way].append(rate)
                if way in busy:
                    busy[way].append(other / count * 1e6)
                else:
                    started[way].append(other)
        size = path.stat().st_size
    found: JsonObject = {
        "artifact_sha256": sha256(artifact / MANIFEST),
        "count": count,
        "bytes_a_text": size / count,
        "tokens_a_text": float(np.mean(OnnxEncoder(artifact).words.lengths(texts))),
        "texts_per_second": rates,
        "core_seconds_a_million": {part: float(np.median(found)) for part, found in busy.items()},
        "median": {way: float(np.median(found)) for way, found in rates.items()},
    }
    if len(workers) > 1:
        found["gain"] = _gain(rates, workers)
        found["once_started"] = {"texts_per_second": started, "gain": _gain(started, workers)}
    return found | {"environment": describe()}


def _gain(rates: dict[str, list[float]], workers: Sequence[int]) -> JsonObject:
    first, last = workers[0], workers[-1]
    gains = [many / few for few, many in zip(rates[str(first)], rates[str(last)], strict=True)]
    return {"of": last, "over": first, "rounds": gains, "median": float(np.median(gains))}


def _in_a_process(request: JsonObject, aside: str) -> tuple[float, float]:
    failed = f"{request['artifact']}: {request['way']} could not be timed"
    with tempfile.TemporaryDirectory(dir=aside) as to:
        rate, cpu_seconds = in_a_process("benchmarks.speed.scale", request | {"out": to}, 1, failed, APART)
    return rate, cpu_seconds


def _timed(request: JsonObject) -> tuple[float, float]:
    """Return texts a second, and the seconds of this process's cores; of workers, those once their cluster is there."""
    artifact, texts, out = (Path(request[name]) for name in ("artifact", "texts", "out"))
    way, count = request["way"], request["count"]
    if way.isdecimal():
        started = time.perf_counter()
        with connected(Cluster("local", int(way))):
            start = time.perf_counter() - started
            many = embed(artifact, texts, out, 1, ray="auto", workers=int(way), shard_rows=max(1, count // 16))
            done = time.perf_counter()
        end = time.perf_counter() - done
        return many.computed / (start + many.seconds + end), many.computed / many.seconds
    go = {"read": _read, "tokenize": _tokenize, "write": _write, "embed": _embed}[way](artifact, texts, out)
    started, busy = time.perf_counter(), time.process_time()
    done = go()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    if done != count:
        raise CompressorError(f"{way}: {count:,} texts gave {done:,}")
    return done / seconds, busy


def _embed(artifact: Path, texts: Path, out: Path) -> Callable[[], int]:
    return lambda: embed(artifact, texts, out, 1).computed


def _read(artifact: Path, texts: Path, out: Path) -> Callable[[], int]:
    files = open_rows([texts], None, None)
    plan, cursor = Plan.make(files, _SHARD), Cursor(files)
    return lambda: sum(len(block) for number in range(len(plan)) for block in cursor.read(plan.shard(number)))


def _tokenize(artifact: Path, texts: Path, out: Path) -> Callable[[], int]:
    encoder, lines = OnnxEncoder(artifact, threads=1), _lines(texts)
    return lambda: sum(len(encoder.tokenize(lines[at : at + _PIECE])) for at in range(0, len(lines), _PIECE))


def _write(artifact: Path, texts: Path, out: Path) -> Callable[[], int]:
    width, count = OnnxEncoder(artifact, threads=1).dim, len(_lines(texts))
    vectors = np.random.default_rng(0).standard_normal((_PIECE, width), np.float32)
    output = ParquetFiles(out, Columns("float32", width, True, False), "key")

    def write() -> int:
        for number, first in enumerate(range(0, count, _SHARD)):
            end = min(first + _SHARD, count)
            ids = (np.arange(at, min(at + _PIECE, end)) for at in range(first, end, _PIECE))
            output.write(
                Shard(number, first, end - first, ()), (Rows(vectors[: len(rows)], rows, None) for rows in ids)
            )
        return count

    return write


def _lines(texts: Path) -> list[str]:
    with texts.open(encoding="utf-8") as file:
        return [json.loads(line)["text"] for line in file]


def main(arguments: list[str]) -> int:
    """Read the command line, print the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.scale", description=measure.__doc__)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("count", type=int, help="texts, as 200000")
    parser.add_argument("--texts", default=None, help="text file or data set; by default docstrings")
    parser.add_argument("--workers", type=int, nargs="*", default=[], help="as 1 2; needs ray")
    parser.add_argument("--rounds", type=int, default=3)
    return harness(
        arguments,
        parser,
        _timed,
        lambda given: measure(given.artifact, given.texts, given.count, given.workers, given.rounds),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
