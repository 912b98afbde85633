"""A peer that has no server behind the framework of ``compressor serve``, as small as its users would write it.

Runs in the peer's own environment, where nothing of this project is but ``benchmarks/peers/runners``:

    python app.py RUNNER PORT THREADS TEACHER FOLDER OPTIONS

OPTIONS are JSON. Requests are computed one after the other, on all threads, as they come.
"""

import asyncio
import base64
import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_BATCH = 32


def app_of(running: Any) -> Starlette:
    """Return an app that answers ``/v1/embeddings`` by what a runner has opened."""
    one = ThreadPoolExecutor(1)

    async def embeddings(request: Request) -> Response:
        asked = orjson.loads(await request.body())
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(one, running.encode, texts, _BATCH)
        encoded = asked.get("encoding_format") == "base64"
        rows = [base64.b64encode(row.tobytes()).decode() if encoded else row.tolist() for row in vectors]
        data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(rows)]
        answer = {"object": "list", "data": data, "model": "peer", "usage": {"prompt_tokens": 0, "total_tokens": 0}}
        return Response(orjson.dumps(answer), media_type="application/json")

    return Starlette(routes=[Route("/v1/embeddings", embeddings, methods=["POST"])])


def main(runner: str, port: str, threads: str, teacher: str, folder: str, options: str) -> None:
    """Open the peer, then listen."""
    sys.path.append(str(Path(__file__).parents[1] / "peers"))  # last: its modules have names that others have, too
    module = importlib.import_module(f"runners.{runner}")
    running = module.load(teacher, folder or None, int(threads), **json.loads(options))
    uvicorn.run(app_of(running), host="127.0.0.1", port=int(port), access_log=False, log_level="error")


if __name__ == "__main__":
    main(*sys.argv[1:])
