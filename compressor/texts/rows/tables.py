"""Tables of lines: CSV, and a JSON object a line."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from compressor.core.encoder import check_texts
from compressor.core.errors import TextError
from compressor.texts.rows.base import Block, LineFile, Mark, changed, in_blocks
from compressor.texts.rows.chunks import lines_from, raw_lines
from compressor.texts.tables import csv_names, csv_rows, delimiter_of, json_rows


@dataclass(frozen=True)
class Table(LineFile):
    """A table, the column of its texts, and that of their ids."""

    column: str
    id_column: str | None


@dataclass(frozen=True)
class JsonRows(Table):
    """A JSON object a line; blank lines are none. Ids are texts, or whole numbers, which become texts."""

    def blocks(self, mark: Mark) -> Iterator[Block]:
        return in_blocks(self._rows(mark), self.id_column is not None)

    def _rows(self, mark: Mark) -> Iterator[tuple[str, str | None]]:
        for line, row in json_rows(self.path, lines_from(self.path, mark.offset), mark.line - 1):
            text = row.get(self.column)
            if not isinstance(text, str | None):
                raise TextError(f"{self.path}: line {line}: {self.column} = {text!r:.40}: no text")
            name = None if self.id_column is None else self._id(line, self.id_column, row.get(self.id_column))
            if not (text or "").isascii():
                check_texts([text or ""], line, f"{self.path}: line")
            yield text or "", name

    def _id(self, line: int, column: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise TextError(f"{self.path}: line {line}: {column} = {value!r:.40}: no id; a text or a whole number is")
        if isinstance(value, str):
            check_texts([value], line, f"{self.path}: line")
        return str(value)

    def _starts(self) -> Iterator[tuple[int, int]]:
        return ((offset, line) for offset, line, raw in raw_lines(self.path) if raw.strip())


@dataclass(frozen=True)
class CsvRows(Table):
    """A .csv or .tsv file with a header; blank lines are no rows. Ids are taken as they stand."""

    def blocks(self, mark: Mark) -> Iterator[Block]:
        return in_blocks(self._rows(mark), self.id_column is not None)

    def _rows(self, mark: Mark) -> Iterator[tuple[str, str | None]]:
        delimiter = delimiter_of(self.path)
        names = csv_names(self.path, csv_rows(self.path, delimiter))
        at = names.index(self.column)
        id_at = None if self.id_column is None else names.index(self.id_column)
        for line, row in csv_rows(self.path, delimiter, lines_from(self.path, mark.offset), mark.line - 1):
            if not row:
                continue
            if len(row) != len(names):
                raise TextError(f"{self.path}: line {line} has {len(row)} columns, the first line {len(names)}")
            yield row[at], None if id_at is None else row[id_at]

    def _starts(self) -> Iterator[tuple[int, int]]:
        starts = self._all_starts()
        next(starts, None)  # the header
        return starts

    def _all_starts(self) -> Iterator[tuple[int, int]]:
        """Yield the start of each row; a field in quotes may reach over several lines."""
        delimiter, raw = delimiter_of(self.path), raw_lines(self.path)
        quotes = delimiter == ","
        for offset, number, line in raw:
            if quotes and b'"' in line:
                decoded = (other.decode() for other in chain([line], (more for _, _, more in raw)))
                try:
                    next(csv.reader(decoded, strict=True))
                except csv.Error:
                    self._refuse()
            if line.strip(b"\r\n"):
                yield offset, number

    def _refuse(self) -> None:
        """Raise the TextError that says what is wrong with the file: what reads its rows finds it."""
        for _ in csv_rows(self.path, delimiter_of(self.path)):
            pass
        raise changed(self.path)
