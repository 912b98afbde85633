"""Several processes that train one student together, as torchrun and accelerate start them."""

import os

from compressor.core.errors import RecipeError


def rank() -> int:
    """Return this process's number; the first, 0, writes what all have made."""
    return place()[0]


def world() -> int:
    """Return how many processes there are; 1 when started alone."""
    return place()[1]


def alone(what: str) -> None:
    """Refuse several processes: RecipeError, in each, for ``what`` is done by one."""
    if world() > 1:
        raise RecipeError(f"environment variable WORLD_SIZE = {world()}: must be 1: {what} in one process")


def place() -> tuple[int, int]:
    """Return this process's number and how many there are, as torchrun tells them; RecipeError for what cannot be."""
    rank, world = _number("RANK", "0", 0), _number("WORLD_SIZE", "1", 1)
    if rank >= world:
        raise RecipeError(f"environment variable RANK = {rank}: must be less than WORLD_SIZE = {world}")
    return rank, world


def _number(name: str, default: str, least: int) -> int:
    text = os.environ.get(name, default)
    if not text.isdecimal() or int(text) < least:
        raise RecipeError(f"environment variable {name} = {text}: must be a whole number from {least}")
    return int(text)
