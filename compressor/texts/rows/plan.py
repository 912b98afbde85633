"""Rows of many files cut into shards of one size: the same rows in a shard, whoever reads it and when."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from compressor.texts.rows.base import Block, Mark, RowFile, changed


@dataclass(frozen=True)
class Piece:
    """Rows of a shard that stand in one file."""

    file: int
    """Its number among the files."""
    mark: Mark
    rows: int


@dataclass(frozen=True)
class Shard:
    """Rows ``first`` to ``first + rows`` of all."""

    number: int
    first: int
    rows: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Plan:
    """Where the rows of each file lie, and how they are cut: every shard but the last has ``every`` rows."""

    every: int
    counts: tuple[int, ...]
    """Rows of each file."""
    marks: tuple[tuple[Mark, ...], ...]
    """Of each file, where its first row and those begin that a shard begins with."""

    @classmethod
    def make(cls, files: Sequence[RowFile], every: int, done: Callable[[int], None] = lambda _: None) -> "Plan":
        """Read the files once; ``done`` is told of each one's rows. TextError for what cannot be read."""
        counts, marks, total = [], [], 0
        for file in files:
            count, found = file.marks(-total % every, every)
            counts.append(count)
            marks.append(tuple(found))
            total += count
            done(count)
        return cls(every, tuple(counts), tuple(marks))

    @property
    def rows(self) -> int:
        return self._starts[-1]

    def __len__(self) -> int:
        """Count the shards."""
        return -(-self.rows // self.every)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(self.counts)]

    def shard(self, number: int) -> Shard:
        """Return the rows of a shard; IndexError for one that there is not."""
        first = range(0, self.rows, self.every)[number]
        rows = min(self.every, self.rows - first)
        return Shard(number, first, rows, tuple(self._pieces(first, first + rows)))

    def _pieces(self, first: int, end: int) -> Iterator[Piece]:
        file = bisect_right(self._starts, first) - 1
        while first < end:
            last = min(end, self._starts[file + 1])
            if last > first:
                row = first - self._starts[file]
                mark = next(mark for mark in self.marks[file] if mark.row == row)
                yield Piece(file, mark, last - first)
            first, file = last, file + 1

    def as_json(self) -> dict[str, Any]:
        """Return what ``read`` makes the plan of again."""
        return {"every": self.every, "counts": self.counts, "marks": self.marks}

    @classmethod
    def read(cls, stated: dict[str, Any]) -> "Plan":
        """Make a plan of what ``as_json`` gave; ValueError, LookupError or TypeError for anything else."""
        marks = tuple(tuple(Mark(*map(int, mark)) for mark in found) for found in stated["marks"])
        return cls(int(stated["every"]), tuple(map(int, stated["counts"])), marks)


class Cursor:
    """Reads the rows of shards; of one that follows the last it goes on where it is."""

    def __init__(self, files: Sequence[RowFile]) -> None:
        self._files = files
        self._file, self._row = -1, 0
        self._blocks: Iterator[Block] = iter(())
        self._rest = Block([], None)

    def read(self, shard: Shard) -> Iterator[Block]:
        """Yield the rows of ``shard``; TextError for a file that has fewer than it had."""
        for piece in shard.pieces:
            self._go(piece)
            left = piece.rows
            while left:
                block, self._rest = (self._rest or self._next(piece)).cut(left)
                self._row += len(block)
                left -= len(block)
                yield block

    def _go(self, piece: Piece) -> None:
        if (self._file, self._row) != (piece.file, piece.mark.row):
            self._blocks, self._rest = self._files[piece.file].blocks(piece.mark), Block([], None)
            self._file, self._row = piece.file, piece.mark.row

    def _next(self, piece: Piece) -> Block:
        block = next(self._blocks, None)
        if block is None:
            raise changed(self._files[piece.file].path)
        return block
