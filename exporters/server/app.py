"""The addresses of the server, and what answers at each."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from compressor.core.strict_json import JsonObject
from exporters.server.answers import answer
from exporters.server.embeddings import embed, embeddings
from exporters.server.refused import Refused
from exporters.server.service import Service, endpoint, json_response

OWNER = "compressor"


def app_of(service: Service, begun: Callable[[], None] = lambda: None) -> Any:
    """Return the application: ``begun`` is called in its loop at its start, and the batchers close at its end."""

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        begun()
        yield
        service.models.close()

    routes = [
        Route("/v1/embeddings", endpoint(service, embeddings), methods=["POST"]),
        Route("/embed", endpoint(service, embed, tei=True), methods=["POST"]),
        Route("/answer", endpoint(service, answer), methods=["POST"]),
        Route("/v1/models", _asked(service, lambda _: _models(service))),
        Route("/v1/models/{name:path}", _asked(service, lambda request: _model(service, request.path_params["name"]))),
        Route("/metrics", _asked(service, lambda _: _metrics(service))),
        Route("/health", _health),
        Route("/ready", _ready(service)),
    ]
    handlers = {HTTPException: _no_such, 500: _fault}
    return _Closing(Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan), service)


class _Closing:
    """Ends each connection with its answer once the server is ending, so that clients go elsewhere."""

    def __init__(self, app: Any, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def closing(message: Any) -> None:
            if self._service.draining and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive, closing)


def _asked(service: Service, respond: Callable[[Request], Response]) -> Callable[[Request], Awaitable[Response]]:
    async def get(request: Request) -> Response:
        try:
            service.check_key(request)
            return respond(request)
        except Refused as refused:
            return json_response(refused.as_dict(), refused.status, refused.headers)

    return get


def _models(service: Service) -> Response:
    return json_response({"object": "list", "data": [_facts(service, name) for name in service.models.by_name]})


def _model(service: Service, name: str) -> Response:
    service.models.find(name)
    return json_response(_facts(service, name))


def _facts(service: Service, name: str) -> JsonObject:
    models = service.models
    head = {"id": name, "object": "model", "created": models.created[name], "owned_by": OWNER}
    return head | models.by_name[name].facts()


def _metrics(service: Service) -> Response:
    text, kind = service.metrics.text()
    return Response(text, headers={"Content-Type": kind})


async def _health(_: Request) -> Response:
    return json_response({"status": "ok"})


def _ready(service: Service) -> Callable[[Request], Awaitable[Response]]:
    async def ready(_: Request) -> Response:
        return json_response({"status": "ending"}, 503) if service.draining else json_response({"status": "ready"})

    return ready


async def _no_such(request: Request, error: Any) -> Response:
    """Say of a path or a method that there is none."""
    message = f"{request.method} {ascii(request.scope['path'])[1:-1]:.80}: {error.detail}"
    refused = Refused(error.status_code, message, None, "no_such_address", error.headers)
    return json_response(refused.as_dict(), refused.status, refused.headers)


async def _fault(_: Request, __: Exception) -> Response:
    return json_response(Refused(500, "a fault of the server; its log says where").as_dict(), 500)
