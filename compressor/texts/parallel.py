"""Parallel texts: sentences and their translations, from pairs of files or from columns of one."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from compressor.core.config import Config
from compressor.core.errors import TextError
from compressor.texts.mixing import clean, folded
from compressor.texts.reading import PACKED_SUFFIXES, TABLE_SUFFIXES, kind_of, lines
from compressor.texts.tables import csv_rows, delimiter_of

MIN_PAIRS = 20
Pair = tuple[str, str]
T = TypeVar("T")


@dataclass(frozen=True)
class ParallelTexts:
    """Distinct, cleaned pairs: ``translations[i]`` says what ``sources[i]`` says."""

    sources: Sequence[str]
    translations: Sequence[str]
    dropped: dict[str, int] = field(default_factory=dict)
    """How many pairs were left out as ``empty``, ``over_long``, ``identical`` and ``duplicate``."""
    fingerprint: str = ""
    """sha256 of the pairs in their order."""

    @classmethod
    def of(cls, pairs: Sequence[Pair], dropped: dict[str, int] | None = None) -> "ParallelTexts":
        """Keep ``pairs`` as they are."""
        digest = hashlib.sha256()
        for pair in pairs:
            digest.update(json.dumps(pair).encode())
        return cls(
            [source for source, _ in pairs],
            [translation for _, translation in pairs],
            dropped or {},
            digest.hexdigest(),
        )

    @property
    def key(self) -> str:
        return self.fingerprint

    def __len__(self) -> int:
        return len(self.sources)

    def split(self, heldout: int, seed: int = 0) -> tuple["ParallelTexts", "ParallelTexts"]:
        """Part the pairs into those to train on and about ``heldout`` to measure on.

        The hash of the source decides, so that no source, nor one that differs from it by case and punctuation, stands
        on both sides, and pairs added later do not reshuffle the others. The pairs counted as dropped stay with the
        first part.
        """
        pairs = list(zip(self.sources, self.translations, strict=True))
        ranks = [hashlib.blake2b(b"%d " % seed + folded(s.encode()), digest_size=8).digest() for s in self.sources]
        last = sorted(ranks)[min(heldout, len(ranks)) - 1] if heldout and ranks else b""
        train = [pair for pair, rank in zip(pairs, ranks, strict=True) if rank > last]
        return ParallelTexts.of(train, self.dropped), ParallelTexts.of(
            [pair for pair, rank in zip(pairs, ranks, strict=True) if rank <= last]
        )

    def without(self, sources: Iterable[str]) -> "ParallelTexts":
        """Return the pairs of no source that is like one of these but for case and punctuation."""
        left_out = {folded(source.encode()) for source in sources}
        pairs = zip(self.sources, self.translations, strict=True)
        return ParallelTexts.of([pair for pair in pairs if folded(pair[0].encode()) not in left_out], self.dropped)

    def facts(self) -> dict[str, Any]:
        """Return the ``parallel`` section of the results."""
        return {"count": len(self), "fingerprint": self.fingerprint, "dropped": self.dropped}


class Parallel(Config):
    """Where texts and their translations come from."""

    pairs: Annotated[tuple[Annotated[tuple[str, ...], Field(min_length=1, max_length=2)], ...], Field(min_length=1)]
    """Each one file or two: ``["a.en.gz", "a.de.gz"]`` line by line, ``["en.csv", "de.csv"]`` or two .tsv row by
    row and column by column, ``["a.tsv"]`` with source, tab, translation and maybe more translations on a line; UTF-8,
    plain or .gz. The teacher reads the sources."""
    columns: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1)
    """Columns of two .csv or .tsv files that hold texts, counted from 0; the default is that of STS files."""
    max_characters: Annotated[int, Field(ge=1)] = 1000
    """Pairs with a longer text are dropped: they are rarely sentences."""

    def load(self, base: Path | None = None) -> ParallelTexts:
        """Read and clean all pairs; relative files are looked for in ``base``.

        Files are read line by line; only what is kept stays in memory. Raises TextError, with file and line, for
        what cannot be read, is not UTF-8, has too few columns, or ends before its other half does; and for fewer
        than MIN_PAIRS pairs.
        """
        kept: dict[Pair, None] = {}
        dropped = {"empty": 0, "over_long": 0, "identical": 0, "duplicate": 0}
        for names in self.pairs:
            for pair in self._read([(base or Path()) / os.path.expanduser(name) for name in names]):
                cleaned = clean(pair[0]), clean(pair[1])
                fault = "duplicate" if cleaned in kept else self._fault(cleaned)
                if fault:
                    dropped[fault] += 1
                else:
                    kept[cleaned] = None
        if len(kept) < MIN_PAIRS:
            named = ", ".join("+".join(names) for names in self.pairs)
            raise TextError(f"{named}: {len(kept)} distinct pairs; at least {MIN_PAIRS} are needed")
        return ParallelTexts.of(list(kept), dropped)

    def _read(self, paths: list[Path]) -> Iterator[Pair]:
        tables = len(paths) > 1 and all(kind_of(path) in (".csv", ".tsv") for path in paths)
        for path in paths:
            alone = len(paths) == 1 and kind_of(path) == ".tsv"
            if kind_of(path) in TABLE_SUFFIXES | PACKED_SUFFIXES and not (tables or alone):
                wanted = "lines, two .csv or .tsv files, or one .tsv file with both texts on a line"
                raise TextError(f"{path}: give {wanted}")
        if len(paths) == 1:
            yield from _columns(paths[0])
        elif tables:
            for left, right in _side_by_side(paths, lambda path: _cells(path, self.columns)):
                yield from zip(left, right, strict=True)
        else:
            yield from _side_by_side(paths, lines)

    def _fault(self, pair: Pair) -> str | None:
        if not (pair[0] and pair[1]):
            return "empty"
        if max(map(len, pair)) > self.max_characters:
            return "over_long"
        return "identical" if pair[0] == pair[1] else None


def _columns(path: Path) -> Iterator[Pair]:
    """Yield the source with each of its translations."""
    for number, line in enumerate(lines(path), start=1):
        source, *translations = line.rstrip("\r\n").split("\t")
        if not translations and not source.strip():
            translations = [""]  # an empty line
        if not translations:
            raise TextError(f"{path}: line {number} has no tab; expected source<TAB>translation")
        yield from ((source, translation) for translation in translations)


def _side_by_side(paths: list[Path], read: Callable[[Path], Iterator[T]]) -> Iterator[tuple[T, T]]:
    """Yield what stands on the same line of two files."""
    left, right = paths
    for number, (left_part, right_part) in enumerate(zip_longest(read(left), read(right)), start=1):
        if left_part is None or right_part is None:
            ended, longer = (left, right) if left_part is None else (right, left)
            raise TextError(f"{ended}: ends before line {number}, where {longer} goes on; pairs need equal lengths")
        yield left_part, right_part


def _cells(path: Path, columns: Sequence[int]) -> Iterator[list[str]]:
    """Yield the given columns of each row."""
    for line, row in csv_rows(path, delimiter_of(path)):
        if row and len(row) <= max(columns):
            raise TextError(f"{path}: line {line} has {len(row)} columns; column {max(columns)} is wanted")
        yield [row[column] for column in columns] if row else [""] * len(columns)
