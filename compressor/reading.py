"""Where texts are read from: a file, a data set, or the docstrings of installed packages; streamed, not yet cleaned."""

import gzip
import os
import textwrap
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor import docstrings
from compressor.artifact import key_of, sha256
from compressor.errors import TextError

MAX_LINE_BYTES = 1 << 20
"""No text is this long: a file without line ends is refused before it fills the memory."""

TEXT_SUFFIXES = frozenset({".txt", ".text", ".gz", ".md", ".en"})
OTHER_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".parquet", ".bz2", ".xz", ".zip", ".zst"})
"""Files that hold texts, but not one a line: refused rather than read as if they did."""

_HASHED_BYTES = 1 << 28
_GZIP_RATIO = 4  # how much longer than its gzip a text commonly is
_ROWS, _ROW_BYTES = 1000, 100  # rows of a data set read at a time, and about what one holds


@dataclass(frozen=True)
class Reading:
    """One source of texts, opened but not yet read."""

    name: str
    identity: str
    """Hash of the content, or of what changes with it: the same identity gives the same texts."""
    size_bytes: int
    """About how many bytes of text to expect."""
    texts: Callable[[], Iterable[str]]


def file_reading(source: str, path: Path) -> Reading:
    """Open a text file, plain or .gz, UTF-8, one text a line."""
    if path.suffix.lower() in OTHER_SUFFIXES:
        raise TextError(f"{path}: a {path.suffix} file is no text file; give one text a line, plain or .gz")
    with _readable(path):
        size = path.stat().st_size
        identity = _file_identity(path)
    packed = path.suffix.lower() == ".gz"
    return Reading(source, identity, size * _GZIP_RATIO if packed else size, lambda: lines(path))


def dataset_reading(source: str, split: str, column: str | None) -> Reading:
    """Open a data set, ``name`` or ``name:config``; its rows stay on disk (Arrow) and are read in blocks."""
    name, _, config = source.partition(":")
    from datasets import load_dataset  # here: it takes a second to import

    try:
        rows: Any = load_dataset(name, config or None, split=split)
    except Exception as error:  # hub, network, parser: each has errors of its own
        reason = textwrap.shorten(str(error) or type(error).__name__, 240, placeholder=" …")
        raise TextError(f"{source}: no file, and as a data set not to be had: {reason}") from error
    wanted = _text_column(source, rows.features, column)
    # datasets' own hash of the rows: it changes with their files and with all that was done to them
    identity = key_of("data set", rows._fingerprint, wanted)
    return Reading(source, identity, rows.num_rows * _ROW_BYTES, lambda: _column(rows, wanted))


def docstring_reading(limit: int | None) -> Reading:
    """Collect English sentences from the docstrings of installed packages, ``limit`` at most."""
    texts = docstrings.sentences(limit)
    return Reading("docstrings", key_of("docstrings", texts), sum(map(len, texts)), lambda: texts)


def is_file(source: str, path: Path) -> bool:
    """Tell a file from a data set, whose name has at most one slash and no suffix."""
    spelt = source.startswith(("./", "../", "/", "~")) or source.count("/") > 1
    return spelt or path.suffix.lower() in TEXT_SUFFIXES | OTHER_SUFFIXES or os.path.exists(path)


def _file_identity(path: Path) -> str:
    """Hash the content; of a file too long to read only for that, hash place, size and times of the last change."""
    stat = path.stat()
    if stat.st_size <= _HASHED_BYTES:
        return key_of("content", sha256(path), path.suffix.lower() == ".gz")
    resolved = path.resolve()
    return key_of("file", str(resolved), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Word what keeps a file from being read as one TextError."""
    try:
        yield
    except FileNotFoundError as error:
        raise TextError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise TextError(f"{path}: a folder, not a text file") from error
    except EOFError as error:
        raise TextError(f"{path}: the gzip file is cut off") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TextError(f"{path}: not a sound gzip file ({error})") from error
    except OSError as error:
        raise TextError(f"{path}: cannot be read ({error.strerror})") from error


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, plain or .gz; TextError for what cannot be read."""
    decoded = _decoded(path)
    while True:
        with _readable(path):  # around the reading alone: what is done with a line has errors of its own
            line = next(decoded, None)
        if line is None:
            return
        yield line


def _decoded(path: Path) -> Iterator[str]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
            if b"\0" in line:
                raise TextError(f"{path}: line {number} holds a NUL byte; this is a binary file")
            if len(line) == MAX_LINE_BYTES:
                raise TextError(f"{path}: line {number} is longer than {MAX_LINE_BYTES} bytes; one text a line")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"line {number}, byte {error.start + 1} (0x{line[error.start]:02x})"
                raise TextError(f"{path}: {where} is not UTF-8") from error


def _column(rows: Any, name: str) -> Iterator[str]:
    for block in rows.select_columns([name]).iter(batch_size=_ROWS):
        for text in block[name]:
            yield text or ""


def _text_column(source: str, features: dict[str, Any], column: str | None) -> str:
    names = [name for name, kind in features.items() if getattr(kind, "dtype", "").endswith("string")]
    if column is None and names:
        return names[0]
    if column in names:
        return str(column)
    wanted = "no text column" if column is None else f"column = {column}: no such text column"
    raise TextError(f"{source}: {wanted}; there are: {', '.join(names if names else features) or 'none'}")
