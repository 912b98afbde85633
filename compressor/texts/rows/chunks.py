"""The lines of a UTF-8 file from any byte on, plain or .gz, some thousand at a time."""

import codecs
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from compressor.core.encodings import encoding_fault
from compressor.texts.reading import MAX_LINE_BYTES, lines, readable
from compressor.texts.rows.base import changed

_BYTES = 1 << 19


class Chunk(NamedTuple):
    """Whole lines."""

    offset: int
    """Bytes of the file before them, unpacked."""
    raw: bytes
    text: str


def chunks(path: Path, offset: int = 0) -> Iterator[Chunk]:
    """Yield the lines after ``offset`` bytes, without the file's mark; TextError for what ``lines`` refuses."""
    with readable(path), gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        rest = b""
        if offset:
            file.seek(offset)
        else:
            head = file.read(64)
            if encoding_fault(head):
                _refuse(path)
            rest = head.removeprefix(codecs.BOM_UTF8)
            offset = len(head) - len(rest)
        while block := file.read(_BYTES):
            whole = rest + block
            end = whole.rfind(b"\n") + 1
            rest = whole[end:]
            if end:
                yield _checked(path, offset, whole[:end])
                offset += end
            if len(rest) >= MAX_LINE_BYTES:
                _refuse(path)
        if rest:
            yield _checked(path, offset, rest)


def lines_from(path: Path, offset: int) -> Iterator[str]:
    """Yield the lines after ``offset`` bytes, each with its end."""
    for chunk in chunks(path, offset):
        yield from io.StringIO(chunk.text, newline="\n")


def raw_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield each line's bytes before it, its number from 1, and itself with its end."""
    number = 1
    for chunk in chunks(path):
        offset = chunk.offset
        for line in io.BytesIO(chunk.raw):
            yield offset, number, line
            offset += len(line)
            number += 1


def _checked(path: Path, offset: int, raw: bytes) -> Chunk:
    if b"\0" in raw or (len(raw) >= MAX_LINE_BYTES and max(map(len, raw.split(b"\n"))) >= MAX_LINE_BYTES):
        _refuse(path)
    try:
        return Chunk(offset, raw, raw.decode("utf-8"))
    except UnicodeDecodeError:
        _refuse(path)


def _refuse(path: Path) -> NoReturn:
    """Raise the TextError that names the line: what reads line by line finds it."""
    for _ in lines(path):
        pass
    raise changed(path)
