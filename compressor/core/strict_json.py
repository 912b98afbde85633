"""JSON that others can read, and JSON from strangers: bounded in size and depth, UTF-8, no key twice, a plain file."""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressor.core.errors import CompressorError

JsonObject = dict[str, Any]
"""What a JSON object holds, on its way to a file: the work is done on types, which write it and read it again."""
MOST_BYTES = 64 << 20


def json_text(value: Any) -> str:
    """Return JSON, indented; CompressorError, naming the place, where a figure is NaN or infinite: JSON has neither."""
    try:
        return json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        place, figure = next(_no_numbers(value), ("", "circular"))
        raise CompressorError(f"{place} = {figure}: no finite number, which JSON cannot hold") from error


def _no_numbers(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place or "value", value
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list | tuple) else ()
    for name, part in parts:
        yield from _no_numbers(part, f"{place}.{name}" if place else str(name))


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """Return what the file at ``path`` says; OSError or ValueError, each of one line, for anything but sound JSON."""
    return parse_json(read_plain(path, most_bytes))


def read_plain(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return the content of a plain file; ValueError for a longer one, or for a pipe, device or folder."""
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("no plain file")
    if status.st_size > most_bytes:
        raise ValueError(f"{status.st_size} bytes; at most {most_bytes} are read")
    with path.open("rb") as file:
        return file.read(most_bytes)


def parse_json(content: bytes) -> Any:
    """Return what ``content``, UTF-8, says; ValueError where it is not sound, or says a key of an object twice."""
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!a:.80} comes twice")
    return made
