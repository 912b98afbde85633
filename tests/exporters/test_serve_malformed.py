"""Whatever is sent, a server answers with a status below 500 and one line, and goes on."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import Reply, Server, serving

pytestmark = pytest.mark.packages
for _name in ("starlette", "uvicorn", "orjson", "prometheus_client"):
    pytest.importorskip(_name, reason=f"{_name} is not installed: make test-serve")

PATHS = ("/v1/embeddings", "/embed", "/answer")
SOUND = {
    "/v1/embeddings": {"model": "tiny", "input": ["a", "b"], "encoding_format": "float", "dimensions": 16,
                       "input_type": "query", "user": "me"},
    "/embed": {"model": "tiny", "inputs": ["a"], "normalize": True, "truncate": True, "truncation_direction": "Right",
               "prompt_name": "query", "dimensions": 16},
    "/answer": {"model": "reader", "inputs": {"question": "a", "context": "b"}, "parameters": {"top_k": 1}},
}  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
ITEMS = st.lists(st.integers(-5, 10**6), max_size=80) | st.lists(st.lists(st.integers(0, 300), max_size=5), max_size=5)
EXAMPLES = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def server(servable: dict[str, Path]) -> Iterator[Server]:
    with serving(f"tiny={servable['fp32']}", f"reader={servable['reader']}", "--threads", 1) as running:
        yield running


def check(reply: Reply) -> None:
    assert reply.status < 500, reply.content
    if reply.status >= 400:
        assert reply.message
        assert "\n" not in reply.message
        assert len(reply.message) < 400


@EXAMPLES
@given(path=st.sampled_from(PATHS), data=st.data())
def test_sound_requests_with_a_field_of_anything(server: Server, path: str, data: st.DataObject) -> None:
    body: dict[str, Any] = dict(SOUND[path])
    name = data.draw(st.sampled_from([*body, "other"]))
    body[name] = data.draw(VALUES | ITEMS)
    check(server.ask(path, json.dumps(body).encode()))


@EXAMPLES
@given(path=st.sampled_from(PATHS), body=VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200))
def test_bodies_of_anything(server: Server, path: str, body: bytes) -> None:
    reply = server.ask(path, body)
    assert reply.status >= 400
    check(reply)


@EXAMPLES
@given(cut=st.integers(0, 200), put=st.binary(max_size=6), path=st.sampled_from(PATHS))
def test_sound_bodies_with_bytes_put_in(server: Server, cut: int, put: bytes, path: str) -> None:
    body = json.dumps(SOUND[path]).encode()
    check(server.ask(path, body[:cut] + put + body[cut:]))


@EXAMPLES
@given(
    path=st.text(st.characters(codec="ascii", exclude_categories=["Cc", "Zs"]), max_size=40),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"]),
    key=st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20),
)
def test_addresses_of_anything(server: Server, path: str, method: str, key: str) -> None:
    reply = server.ask(f"/{path}", None, method, Authorization=key)
    assert reply.status < 500


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nzz\r\n",
        b"POST /embed HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /nothing HTTP/1.1\r\nHost: [bad\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /ready HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET " + b"/a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
    ],
)
def test_what_is_no_http_ends_no_server(server: Server, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        first = connection.makefile("rb").readline()
    assert not first.startswith(b"HTTP/1.1 5")
    assert server.ask("/embed", {"model": "tiny", "inputs": "a"}).status == 200
