"""``compressor serve`` held against the same work in process: in turns, with the same texts, on the same threads.

The client is in this process and on the same cores, as asyncio's streams; it reads answers and does not parse them.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from benchmarks.speed import throughput
from benchmarks.speed.turns import orders
from compressor.core.config import Config
from compressor.core.errors import ModelError, installed
from compressor.core.figures import Figures
from compressor.core.progress import say, track
from exporters.serving import Batcher
from exporters.session import OnnxEncoder

_CONNECTIONS = 64  # for arrivals at random: more than wait at the loads that are asked for


@dataclass(frozen=True)
class OverHttpFigures(Figures):
    """What an artifact does over HTTP, and the same in process: medians of the rounds."""

    threads: int
    clients: int
    texts_a_request: int
    start_seconds: float
    """From the command to its first answer."""
    encode_texts_per_second: float
    served_texts_per_second: float
    """Of clients that each send the next request when they have their answer."""
    served_share: float
    """Of ``encode``'s rate, round by round."""
    batcher_ms_p50: float
    """One text at a time."""
    single_ms_p50: float
    """The same over HTTP."""
    singles_per_second: float
    """Requests of one text, as many as are answered."""
    load: float
    """The share of these that then arrive at random."""
    load_ms_p50: float
    load_ms_p99: float


class OverHttp(Config):
    """Measure an artifact over HTTP beside the same work in process."""

    clients: Annotated[int, Field(ge=1)] = 8
    """Connections, each of which sends its next request when it has its answer."""
    texts_a_request: Annotated[int, Field(ge=1)] = 32
    """Texts of a request, and of a batch in process."""
    encoding_format: Literal["base64", "float"] = "base64"
    """How vectors are sent; OpenAI's client asks for base64."""
    seconds: Annotated[float, Field(gt=0)] = 3.0
    """Of a turn."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """Rounds; in each, everything is measured once."""
    queries: Annotated[int, Field(ge=20)] = 300
    """Single texts of a turn, one after the other."""
    load: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """The share of the highest rate of single texts at which they then arrive at random."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of the artifact; by default all cores of the machine."""

    def measure(self, folder: Path, texts: Sequence[str]) -> OverHttpFigures:
        """Return the figures of both; DependencyError without the server's packages."""
        installed("uvicorn", "uvicorn", "serve")
        encoder = OnnxEncoder(folder, threads=self.threads)
        say(f"  over HTTP and in process on {len(texts):,} texts, {self.rounds} rounds in turns")
        starts = [self._start(folder, encoder.threads, texts[0]) for _ in range(self.rounds)]
        with served(folder, encoder.threads) as port, Batcher(encoder) as batcher:
            turns = self._turns(encoder, batcher, port, texts)
        median = {name: float(np.median(values)) for name, values in turns.items()}
        shares = np.array(turns["served"]) / np.array(turns["encode"])
        return OverHttpFigures(
            threads=encoder.threads,
            clients=self.clients,
            texts_a_request=self.texts_a_request,
            start_seconds=float(np.median(starts)),
            encode_texts_per_second=median["encode"],
            served_texts_per_second=median["served"],
            served_share=float(np.median(shares)),
            batcher_ms_p50=median["batcher"],
            single_ms_p50=median["single"],
            singles_per_second=median["singles"],
            load=self.load,
            load_ms_p50=median["p50"],
            load_ms_p99=median["p99"],
        )

    def _turns(self, encoder: OnnxEncoder, batcher: Batcher, port: int, texts: Sequence[str]) -> dict[str, list[float]]:
        size = self.texts_a_request
        many = [self._body(texts[at : at + size]) for at in range(0, len(texts) - size + 1, size)]
        single = [self._body([text]) for text in texts]
        found: dict[str, list[float]] = {}

        def note(**figures: float) -> None:
            for name, value in figures.items():
                found.setdefault(name, []).append(value)

        def in_process() -> None:
            note(encode=throughput.rate(encoder, texts, size, self.seconds))
            note(batcher=_p50([_timed(batcher, text) for text in islice(cycle(texts), self.queries)]))

        def over_http() -> None:
            time.sleep(throughput.SETTLE_SECONDS)
            note(served=size * asyncio.run(_closed(port, many, self.clients, self.seconds)))
            note(single=_p50(asyncio.run(_one_by_one(port, single, self.queries))))
            rate = asyncio.run(_closed(port, single, self.clients, self.seconds))
            p50, p99 = np.percentile(asyncio.run(_arrivals(port, single, self.load * rate, self.seconds)), [50, 99])
            note(singles=rate, p50=float(p50), p99=float(p99))

        both = {"in process": in_process, "over HTTP": over_http}
        with track("over HTTP", 2 * self.rounds, "turns") as advance:
            for order in orders(list(both), self.rounds):
                for name in order:
                    both[name]()
                    advance(1)
        return found

    def _start(self, folder: Path, threads: int, text: str) -> float:
        started = time.perf_counter()
        with served(folder, threads) as port:
            asyncio.run(_one_by_one(port, [self._body([text])], 1))
            return time.perf_counter() - started

    def _body(self, texts: Sequence[str]) -> bytes:
        body = json.dumps({"input": list(texts), "encoding_format": self.encoding_format}).encode()
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def served(folder: Path, threads: int) -> Iterator[int]:
    """Serve an artifact by a process of its own, and give its port."""
    command = [sys.executable, "-m", "compressor.cli", "serve", f"measured={folder}", "--port", "0"]
    process = subprocess.Popen([*command, "--threads", str(threads)], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise ModelError(f"{folder}: compressor serve ended with status {process.wait()}")
        yield int(line.split()[0].rpartition(":")[2])
    finally:
        process.kill()
        process.wait()


class _Connection:
    """A connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))

    async def ask(self, request: bytes) -> None:
        """Send a request and read its answer; ModelError for one that is refused."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        content = await self._reader.readexactly(length)
        if not head.startswith(b"HTTP/1.1 200"):
            raise ModelError(f"the server refused a request: {content[:200]!r}")

    def close(self) -> None:
        self._writer.close()


async def _closed(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> float:
    """Return requests a second of ``clients`` that each send the next when they have their answer."""
    connections = [await _Connection.open(port) for _ in range(clients)]
    await asyncio.gather(*(connection.ask(requests[0]) for connection in connections))
    start, done, left = time.perf_counter(), 0, cycle(requests)

    async def client(connection: _Connection) -> None:
        nonlocal done
        while time.perf_counter() - start < seconds:
            await connection.ask(next(left))
            done += 1

    await asyncio.gather(*map(client, connections))
    lasted = time.perf_counter() - start
    for connection in connections:
        connection.close()
    return done / lasted


async def _one_by_one(port: int, requests: Sequence[bytes], count: int) -> list[float]:
    """Return the milliseconds of each of ``count`` requests, one after the other."""
    connection = await _Connection.open(port)
    values = []
    for request in islice(cycle(requests), count):
        start = time.perf_counter()
        await connection.ask(request)
        values.append(1000 * (time.perf_counter() - start))
    connection.close()
    return values


async def _arrivals(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> list[float]:
    """Return the milliseconds from when each request was due, at Poisson arrivals of ``rate`` a second."""
    random = np.random.default_rng(0)
    due = np.cumsum(random.exponential(1 / rate, max(100, round(rate * seconds)))).tolist()
    free: asyncio.Queue[_Connection] = asyncio.Queue()
    connections = [await _Connection.open(port) for _ in range(_CONNECTIONS)]
    for connection in connections:
        free.put_nowait(connection)
    start, values = time.perf_counter(), list[float]()

    async def one(at: int) -> None:
        connection = await free.get()
        await connection.ask(requests[at % len(requests)])
        values.append(1000 * (time.perf_counter() - start - due[at]))
        free.put_nowait(connection)

    asking = []
    for at, moment in enumerate(due):
        if (early := moment - (time.perf_counter() - start)) > 0:
            await asyncio.sleep(early)
        asking.append(asyncio.ensure_future(one(at)))
    await asyncio.gather(*asking)
    for connection in connections:
        connection.close()
    return values


def _timed(batcher: Batcher, text: str) -> float:
    start = time.perf_counter()
    batcher.submit(text).result()
    return 1000 * (time.perf_counter() - start)


def _p50(values: Sequence[float]) -> float:
    return float(np.median(values))
