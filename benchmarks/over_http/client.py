"""The client of all servers: asyncio's streams in this process, connections that are kept, answers not parsed."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import numpy as np

from compressor.core.encoder import Vectors
from compressor.core.errors import ModelError, PeerError

_CONNECTIONS = 64  # for arrivals at random: more than wait at the loads that are asked for
_START_SECONDS = 600.0  # to a server's first answer
_WAIT_SECONDS = 600.0  # for the answer to a request
_KNOCK_SECONDS = 0.005  # between tries of a server that does not listen yet


def body(texts: Sequence[str], encoding_format: str) -> bytes:
    """Return a whole request for the vectors of ``texts``."""
    asked = json.dumps({"input": list(texts), "encoding_format": encoding_format}).encode()
    head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(asked)}\r\n\r\n".encode() + asked


def closed(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> float:
    """Return requests a second of ``clients`` that each send the next when they have their answer."""
    return asyncio.run(_closed(port, requests, clients, seconds))


def one_by_one(port: int, requests: Sequence[bytes], count: int) -> list[float]:
    """Return the milliseconds of each of ``count`` requests, one after the other."""
    return asyncio.run(_one_by_one(port, requests, count))


def arrivals(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> list[float]:
    """Return the milliseconds from when each request was due, at Poisson arrivals of ``rate`` a second."""
    return asyncio.run(_arrivals(port, requests, rate, seconds))


def first_answer(port: int, request: bytes, check: Callable[[], None]) -> None:
    """Ask until a server that starts has answered; what ``check`` raises between two tries ends it.

    PeerError for one that takes too long.
    """
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            return asyncio.run(_first_answer(port, request, end - time.monotonic()))
        except OSError as error:  # it does not listen yet, or was asked until the time was over
            check()
            if time.monotonic() >= end:
                raise PeerError(f"its server gave no answer within {_START_SECONDS:g} s") from error
            time.sleep(_KNOCK_SECONDS)


def vectors(port: int, texts: Sequence[str], size: int, encoding_format: str) -> Vectors:
    """Return float32 [len(texts), dim] as a server gives them; ModelError for answers that have none."""
    requests = [body(texts[at : at + size], encoding_format) for at in range(0, len(texts), size)]
    rows = [row for content in asyncio.run(_contents(port, requests)) for row in _rows(content)]
    if len(rows) != len(texts):
        raise ModelError(f"the server gave {len(rows)} vectors for {len(texts)} texts")
    if len({len(row) for row in rows}) > 1:
        raise ModelError(f"the server gave {len(rows)} vectors for {len(texts)} texts, of several lengths")
    return np.stack(rows)


def _rows(content: bytes) -> Iterator[Vectors]:
    try:
        for row in sorted(json.loads(content)["data"], key=lambda row: int(row["index"])):
            given: Any = row["embedding"]
            yield (
                np.frombuffer(base64.b64decode(given), np.float32)
                if isinstance(given, str)
                else np.array(given, np.float32)
            )
    except (ValueError, LookupError, TypeError) as error:
        raise ModelError(f"the server gave no embeddings: {content[:200]!r}") from error


class _Connection:
    """A connection that is kept; one that the server closed while it was idle is opened again, as clients do."""

    def __init__(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._port, self._reader, self._writer = port, reader, writer

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        return cls(port, *await _streams(port))

    async def ask(self, request: bytes) -> bytes:
        """Send a request and read its answer; ModelError for one that is refused, too late, or none."""
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                head, content = await self._answer(request)
        except TimeoutError as error:
            raise ModelError(f"the server did not answer within {_WAIT_SECONDS:g} s") from error
        if not head.startswith(b"HTTP/1.1 200"):
            raise ModelError(f"the server refused a request: {content[:200]!r}")
        return content

    async def _answer(self, request: bytes) -> tuple[bytes, bytes]:
        try:
            head = await self._head(request)
            return head, await self._reader.readexactly(_length(head))
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            raise ModelError("the server closed the connection instead of an answer") from error

    async def _head(self, request: bytes) -> bytes:
        try:
            self._writer.write(request)
            return await self._reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            if getattr(error, "partial", b""):
                raise
        self.close()
        self._reader, self._writer = await _streams(self._port)
        self._writer.write(request)
        return await self._reader.readuntil(b"\r\n\r\n")

    def close(self) -> None:
        self._writer.close()


async def _streams(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)


def _length(head: bytes) -> int:
    stated = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0].strip()
    if not stated.isdigit():
        raise ModelError(f"the server does not say how long its answer is: {head[:200]!r}")
    return int(stated)


@contextmanager
def _closing(connections: Sequence[_Connection]) -> Iterator[None]:
    try:
        yield
    finally:
        for connection in connections:
            connection.close()


async def _first_answer(port: int, request: bytes, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await _one_by_one(port, [request], 1)


async def _opened(port: int, count: int) -> list[_Connection]:
    return [await _Connection.open(port) for _ in range(count)]


async def _contents(port: int, requests: Sequence[bytes]) -> list[bytes]:
    connections = await _opened(port, 1)
    with _closing(connections):
        return [await connections[0].ask(request) for request in requests]


async def _closed(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> float:
    connections = await _opened(port, clients)
    with _closing(connections):
        await asyncio.gather(*(connection.ask(requests[0]) for connection in connections))
        start, done, left = time.perf_counter(), 0, cycle(requests)

        async def client(connection: _Connection) -> None:
            nonlocal done
            while time.perf_counter() - start < seconds:
                await connection.ask(next(left))
                done += 1

        await asyncio.gather(*map(client, connections))
        return done / (time.perf_counter() - start)


async def _one_by_one(port: int, requests: Sequence[bytes], count: int) -> list[float]:
    connections = await _opened(port, 1)
    with _closing(connections):
        values = []
        for request in islice(cycle(requests), count):
            start = time.perf_counter()
            await connections[0].ask(request)
            values.append(1000 * (time.perf_counter() - start))
        return values


async def _arrivals(port: int, requests: Sequence[bytes], rate: float, seconds: float) -> list[float]:
    random = np.random.default_rng(0)
    due = np.cumsum(random.exponential(1 / rate, max(100, round(rate * seconds)))).tolist()
    connections = await _opened(port, _CONNECTIONS)
    with _closing(connections):
        free: asyncio.Queue[_Connection] = asyncio.Queue()
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
        return values
