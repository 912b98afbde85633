"""Several processes that train one student together, as torchrun and accelerate start them."""

import os

from compressor.errors import ArtifactError


def rank() -> int:
    """Return this process's number; the first, 0, writes what all have made."""
    return _number("RANK", 0)


def world() -> int:
    """Return how many processes there are; 1 when started alone."""
    return max(1, _number("WORLD_SIZE", 1))


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise ArtifactError(f"{name} = {text}: must be a number, as torchrun sets it")
    return int(text)
