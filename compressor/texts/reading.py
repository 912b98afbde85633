"""Where texts are read from: a file, or the docstrings of installed packages; streamed, not yet cleaned."""

import codecs
import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compressor.artifact.folder import key_of, sha256
from compressor.core.encodings import encoding_fault
from compressor.core.errors import TextError
from compressor.texts import docstrings

MAX_LINE_BYTES = 1 << 20
"""No text is this long: a file without line ends is refused before it fills the memory."""

TEXT_SUFFIXES = frozenset({".txt", ".text", ".gz", ".md", ".en"})
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"})
"""Files that hold texts in a column."""
PACKED_SUFFIXES = frozenset({".bz2", ".xz", ".zip", ".zst"})
"""Files that are not read: refused rather than read as if they held one text a line."""

GZIP_RATIO = 4
"""How much longer than its gzip a text commonly is."""

DOCSTRING_SHARE = 0.05
"""How much of a source file commonly is sentences in docstrings."""

_HASHED_BYTES = 1 << 28


@dataclass(frozen=True)
class Reading:
    """One source of texts, opened but not yet read."""

    name: str
    identity: str
    """Hash of the content, or of what changes with it: the same identity gives the same texts."""
    size_bytes: int
    """About how many bytes of text to expect."""
    texts: Callable[[], Iterable[str]]
    column: str | None = None
    """The column that they stand in, of a table or data set."""


def file_reading(source: str, path: Path) -> Reading:
    """Open a text file, plain or .gz, UTF-8, one text a line."""
    if path.suffix.lower() in PACKED_SUFFIXES:
        raise TextError(f"{path}: a {path.suffix} file is no text file; give one text a line, plain or .gz")
    with readable(path):
        size = path.stat().st_size
        identity = file_identity(path)
    packed = path.suffix.lower() == ".gz"
    return Reading(source, identity, size * GZIP_RATIO if packed else size, lambda: lines(path))


def docstring_reading(limit: int | None) -> Reading:
    """Collect English sentences from the docstrings of installed packages, ``limit`` at most.

    Parsing those files takes a quarter of a minute: the same ones, unchanged, are the same texts.
    """
    files = [(path, path.stat()) for path in docstrings.files() if path.is_file()]
    identity = key_of("docstrings", limit, [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in files])
    size = int(sum(stat.st_size for _, stat in files) * DOCSTRING_SHARE)
    return Reading("docstrings", identity, size, lambda: docstrings.sentences(limit))


def is_file(source: str, path: Path) -> bool:
    """Tell a file from a data set, whose name has at most one slash and no suffix."""
    spelt = source.startswith(("./", "../", "/", "~")) or source.count("/") > 1
    return spelt or path.suffix.lower() in TEXT_SUFFIXES | TABLE_SUFFIXES | PACKED_SUFFIXES or os.path.exists(path)


def kind_of(path: Path) -> str:
    """Return the suffix that tells what a file holds, in small letters: that before .gz, where there is one."""
    inner = Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    return inner if inner in TABLE_SUFFIXES | PACKED_SUFFIXES else path.suffix.lower()


def file_identity(path: Path) -> str:
    """Hash the content; of a file too long to read only for that, hash place, size and times of the last change."""
    stat = path.stat()
    if stat.st_size <= _HASHED_BYTES:
        return key_of("content", sha256(path), path.suffix.lower() == ".gz")
    resolved = path.resolve()
    return key_of("file", str(resolved), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@contextmanager
def readable(path: Path) -> Iterator[None]:
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
    """Yield the lines of a UTF-8 file, plain or .gz, without its mark; TextError for what cannot be read."""
    decoded = _decoded(path)
    while True:
        with readable(path):  # around the reading alone: what is done with a line has errors of its own
            line = next(decoded, None)
        if line is None:
            return
        yield line


def _decoded(path: Path) -> Iterator[str]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
            if number == 1:
                if fault := encoding_fault(line[:64]):
                    raise TextError(f"{path}: {fault}")
                line = line.removeprefix(codecs.BOM_UTF8)
            if b"\0" in line:
                raise TextError(f"{path}: line {number} holds a NUL byte; this is a binary file")
            if len(line) == MAX_LINE_BYTES:
                raise TextError(f"{path}: line {number} is longer than {MAX_LINE_BYTES} bytes; one text a line")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"line {number}, byte {error.start + 1} (0x{line[error.start]:02x})"
                raise TextError(f"{path}: {where} is not UTF-8") from error
