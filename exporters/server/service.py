"""One request's way: who asks, is there room, what is in the body, and what comes back."""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from compressor.core.errors import BusyError, CompressorError, TextError
from exporters.runtime.prepared import Prepared
from exporters.server.fields import Fields
from exporters.server.metrics import Metrics
from exporters.server.models import Model, Models
from exporters.server.refused import Refused, too_large
from exporters.server.results import Gone, Receive, results
from exporters.server.settings import Serving

log = logging.getLogger("compressor.serve")
_IN_THE_LOOP = 1 << 14  # characters that are tokenized at once: some milliseconds; more of them in a thread
_GONE = 499  # nobody reads it: a status for the counters, as nginx has it


class Service:
    """The state of a server: what is served, how much is taken, and whether it is ending."""

    def __init__(self, models: Models, serving: Serving, key: str | None) -> None:
        self.models, self.serving, self.metrics = models, serving, Metrics(models)
        self._key = None if key is None else f"Bearer {key}".encode()
        self.draining = False
        self.counts = {"taken": 0, "answered": 0, "left by their clients": 0}
        self._here, self._last_seconds = 0, 0.0
        self.metrics.requests.set_function(lambda: self._here)

    def check_key(self, request: Request) -> None:
        """Refuse who does not send the key, where there is one."""
        if self._key is None:
            return
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not secrets.compare_digest(given, self._key):
            raise Refused(
                401,
                "Authorization: must be Bearer and the key",
                None,
                "invalid_api_key",
                {"WWW-Authenticate": "Bearer"},
            )

    @contextmanager
    def room(self) -> Iterator[None]:
        """Count a request while it is here; refuse it where there are too many."""
        if self._here >= self.serving.waiting_requests:
            raise self.busy(f"{self._here} requests are here already; try again later")
        self._here += 1
        started = time.perf_counter()
        try:
            yield
            self._last_seconds = time.perf_counter() - started
        finally:
            self._here -= 1

    def busy(self, message: str) -> Refused:
        """Return the refusal of what there is no room for; it may come again when the last answer took as long."""
        seconds = min(60, max(1, math.ceil(self._last_seconds)))
        return Refused(503, message, None, "overloaded", {"Retry-After": str(seconds)})

    async def compute(
        self, model: Model, characters: int, prepare: Callable[[], list[Prepared]], receive: Receive
    ) -> Any:
        """Return the results of what ``prepare`` makes of a request's items, and their tokens."""
        prepared = await asyncio.to_thread(prepare) if characters > _IN_THE_LOOP else prepare()
        tokens = self._tokens(prepared)
        try:
            futures = model.batcher.submit_prepared(prepared)
        except BusyError as error:
            raise self.busy(str(error).removeprefix("batcher: ")) from error
        found = await results(futures, receive)
        self.metrics.computed(model.name, len(prepared), tokens)
        return found, tokens

    def _tokens(self, prepared: Sequence[Prepared]) -> int:
        tokens, most = sum(item.rows * item.longest for item in prepared), self.serving.request_tokens
        if tokens > most:
            raise too_large(None, f"{tokens} tokens; a request has at most {most}: send fewer texts at once")
        return tokens


Handler = Callable[[Service, Fields, Receive], Awaitable[Any]]


def endpoint(service: Service, handle: Handler, tei: bool = False) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a request with what ``handle`` makes of its fields; ``tei``: or refuses it in TEI's form."""

    async def answer(request: Request) -> Response:
        started, left = time.perf_counter(), False
        service.counts["taken"] += 1
        try:
            service.check_key(request)
            with service.room():
                fields = Fields(parsed(await _body(request, service.serving)))
                response = json_response(await handle(service, fields, request.receive))
        except (Gone, ClientDisconnect):
            response, left = Response(status_code=_GONE), True
        except (Refused, CompressorError) as error:
            refused = _refusal(error, request.scope["path"])
            response = json_response(refused.as_tei() if tei else refused.as_dict(), refused.status, refused.headers)
        service.counts["left by their clients" if left else "answered"] += 1
        service.metrics.answered(request.scope["path"], response.status_code, time.perf_counter() - started)
        return response

    return answer


def _refusal(error: Refused | CompressorError, path: str) -> Refused:
    """Return what a client is told: of its own fault the line, of the model's only that there was one."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, TextError):
        return Refused(400, str(error), code="invalid_value")
    log.error("%s: %s", path, error)
    return Refused(500, "the model could not compute this; the server's log says why")


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with a value as JSON; arrays of numpy are lists."""
    content = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, status, headers, media_type="application/json")


def parsed(body: bytes) -> Any:
    """Return what JSON says; Refused where it is none."""
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise Refused(400, f"body: not JSON: {error}", code="invalid_json") from error


async def _body(request: Request, serving: Serving) -> bytes:
    """Read a body of JSON that is not too large, and does not take too long to come."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a form that a web page of anybody's may send without asking is none
        raise Refused(415, f"Content-Type = {kind!a:.60}: must be application/json", code="unsupported_media_type")
    chunks, size = [], 0
    try:
        async with asyncio.timeout(serving.read_seconds):
            async for chunk in request.stream():
                size += len(chunk)
                if size > serving.body_bytes:
                    raise too_large(None, f"body: more than {serving.body_bytes} bytes")
                chunks.append(chunk)
    except TimeoutError as error:
        late = f"body: did not come within {serving.read_seconds:g} s"
        raise Refused(408, late, None, "timeout", {"Connection": "close"}) from error
    return b"".join(chunks)
