"""Under load each request has its own answer, and a server that is told to end loses none that it took."""

import asyncio
import json
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from served import Server, serving

from exporters.session import OnnxEncoder

pytestmark = pytest.mark.packages
for _name in ("starlette", "uvicorn", "orjson", "prometheus_client"):
    pytest.importorskip(_name, reason=f"{_name} is not installed: make test-serve")

CLIENTS, EACH = 1000, 3
TEXTS = sentences(300)


class Client:
    """A connection that is kept, as clients keep theirs."""

    def __init__(self, port: int) -> None:
        self.port, self.fresh = port, False
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, text: str) -> tuple[int, Any]:
        """Send a text and return status and answer; OSError where no server takes the connection."""
        if self.streams is None:
            self.streams, self.fresh = await asyncio.open_connection("127.0.0.1", self.port), True
        reader, writer = self.streams
        body = json.dumps({"input": text}).encode()
        head = (
            f"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        )
        writer.write(f"{head}\r\n\r\n".encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        content = await reader.readexactly(int(headers["content-length"]))
        self.fresh = False
        if headers.get("connection") == "close":
            self.leave()
        return int(lines[0].split()[1]), json.loads(content)

    def leave(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


@pytest.fixture(autouse=True)
def _many_connections() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * CLIENTS:
        pytest.skip(f"this system allows {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def expected(servable: dict[str, Path]) -> dict[str, np.ndarray]:
    encoder = OnnxEncoder(servable["fp32"], threads=1)
    return dict(zip(TEXTS, encoder.encode(TEXTS), strict=True))


def check(text: str, status: int, answer: Any, expected: dict[str, np.ndarray]) -> None:
    assert status == 200, answer
    [row] = answer["data"]
    assert np.abs(np.array(row["embedding"], np.float32) - expected[text]).max() < 1e-5


def test_a_thousand_clients_have_their_own_answers(servable: dict[str, Path], expected: dict[str, np.ndarray]) -> None:
    async def client(number: int, server: Server, together: asyncio.Barrier) -> int:
        asking = Client(server.port)
        for turn in range(EACH):
            text = TEXTS[(number + 7 * turn) % len(TEXTS)]
            if turn == 1:
                await together.wait()  # all connections are open, and all ask at once
            check(text, *await asking.ask(text), expected)
        asking.leave()
        return EACH

    async def load(server: Server) -> int:
        together = asyncio.Barrier(CLIENTS)
        return sum(await asyncio.gather(*(client(number, server, together) for number in range(CLIENTS))))

    with serving(servable["fp32"], "--threads", 1) as server:
        assert asyncio.run(load(server)) == CLIENTS * EACH
        taken = CLIENTS * EACH
        assert server.end() == f"ended: of the requests {taken} taken, {taken} answered, 0 left by their clients"


@pytest.mark.parametrize("clients", [1, 100])
def test_nothing_is_lost_when_it_is_told_to_end_under_load(
    clients: int, servable: dict[str, Path], expected: dict[str, np.ndarray]
) -> None:
    async def client(number: int, server: Server) -> int:
        """Ask until no server takes a connection; return how many were answered."""
        asking, answered = Client(server.port), 0
        while True:
            text = TEXTS[(number + answered) % len(TEXTS)]
            try:
                reply = await asking.ask(text)
            except (OSError, asyncio.IncompleteReadError):
                # Refused, or never taken off the system's queue: a connection that was taken has its answer.
                assert asking.streams is None or asking.fresh, "a connection ended without an answer"
                return answered
            check(text, *reply, expected)
            answered += 1

    async def load(server: Server) -> int:
        running = [asyncio.ensure_future(client(number, server)) for number in range(clients)]
        await asyncio.sleep(0.7)
        server.process.send_signal(signal.SIGTERM)
        return sum(await asyncio.gather(*running))

    with serving(servable["fp32"], "--threads", 1, "--drain-seconds", 0.5) as server:
        answered = asyncio.run(load(server))
        assert server.process.wait(60) == 0
        assert answered > 20
        assert server.end() == f"ended: of the requests {answered} taken, {answered} answered, 0 left by their clients"
