"""What a file of rows is: it says where rows begin, and reads from there."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from compressor.core.errors import TextError

_BLOCK = 1024  # rows handed on together


class Mark(NamedTuple):
    """Where a row of a file begins."""

    row: int
    """Its number in the file, from 0."""
    offset: int = 0
    """Bytes before it, unpacked; 0 where a row is found by its number."""
    line: int = 1
    """The line that it begins on."""


@dataclass(frozen=True)
class Block:
    """Rows that follow each other."""

    texts: list[str]
    """A text that is empty or missing is ""."""
    ids: list[str] | list[int] | None
    """One a text; None where the file has none."""

    def __len__(self) -> int:
        return len(self.texts)

    def cut(self, count: int) -> tuple["Block", "Block"]:
        """Return the first ``count`` rows, and the others."""
        ids = self.ids
        first, rest = (None, None) if ids is None else (ids[:count], ids[count:])
        return Block(self.texts[:count], first), Block(self.texts[count:], rest)


@dataclass(frozen=True)
class RowFile(ABC):
    """A file of texts, one a row; may be pickled, and read by several at once."""

    path: Path

    @property
    def whole_ids(self) -> bool:
        """Whether the ids are whole numbers of at most 64 bits, told by the file itself."""
        return False

    @abstractmethod
    def marks(self, first: int, every: int) -> tuple[int, list[Mark]]:
        """Count the rows; mark row 0, ``first``, ``first + every`` and so on. TextError for what cannot be read."""

    @abstractmethod
    def blocks(self, mark: Mark) -> Iterator[Block]:
        """Read from ``mark`` to the end; TextError, with its line or row, for what is no text or id."""


@dataclass(frozen=True)
class LineFile(RowFile):
    """A file in which a row begins on a line of its own, plain or .gz."""

    def marks(self, first: int, every: int) -> tuple[int, list[Mark]]:
        found, count, wanted = [], 0, first
        for offset, line in self._starts():
            if count in (0, wanted):
                found.append(Mark(count, offset, line))
                wanted += every if count == wanted else 0
            count += 1
        return count, found

    @abstractmethod
    def _starts(self) -> Iterator[tuple[int, int]]:
        """Yield the bytes before each row, and its line."""


def in_blocks(rows: Iterable[tuple[str, str | None]], with_ids: bool) -> Iterator[Block]:
    """Gather texts and their ids into blocks."""
    source = iter(rows)
    while piece := list(islice(source, _BLOCK)):
        yield Block([text for text, _ in piece], [name or "" for _, name in piece] if with_ids else None)


def changed(path: Path) -> TextError:
    """Return the error for a file that is not what it was a moment ago."""
    return TextError(f"{path}: changed while it was read")
