"""How artifacts are served: where, on what, and how much is taken."""

import os
from typing import Annotated

from pydantic import Field

from compressor.core.config import Config
from compressor.core.errors import RecipeError

KEY = "COMPRESSOR_API_KEY"
"""The environment variable of the key that clients send."""


class Serving(Config):
    """Serve artifacts over HTTP."""

    host: str = "127.0.0.1"
    """Address to listen on: 0.0.0.0 for every network that this machine is in."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0: any free one."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Threads that an artifact computes on; by default one a core."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts that are computed together, at most."""
    body_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 16 << 20
    """Bytes of a request's body, at most."""
    request_texts: Annotated[int, Field(ge=1)] = 2048
    """Texts or questions of a request, at most."""
    request_tokens: Annotated[int, Field(ge=1)] = 300_000
    """Tokens of a request that are computed, at most: of texts as they are cut, of questions with all their windows."""
    waiting_requests: Annotated[int, Field(ge=1)] = 4096
    """Requests that are read, wait or are computed at once; what comes beyond is sent away with status 503."""
    waiting_texts: Annotated[int, Field(ge=1)] = 65_536
    """Texts of an artifact that wait for a worker; what comes beyond is sent away with status 503."""
    read_seconds: Annotated[float, Field(gt=0)] = 30.0
    """Seconds in which a request's body must have come."""
    drain_seconds: Annotated[float, Field(ge=0)] = 1.0
    """Once told to end: seconds in which new requests are still answered, while /ready says 503."""
    finish_seconds: Annotated[int, Field(ge=1)] = 60
    """After these: seconds in which what was taken must have been answered."""

    def check(self) -> None:
        """Refuse limits of which one makes another void."""
        if self.waiting_texts < self.request_texts:
            raise RecipeError(
                f"waiting_texts = {self.waiting_texts}: must be at least request_texts = {self.request_texts}, "
                "or a request of so many is never taken"
            )


def key_in_environment() -> str | None:
    """Return the key that clients must send, None where none is set; RecipeError for one that no header can hold."""
    key = os.environ.get(KEY)
    if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key and key):
        raise RecipeError(
            f"environment variable {KEY}: must be printable ASCII without blanks around it, or not be set"
        )
    return key
