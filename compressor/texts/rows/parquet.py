"""Parquet files, read by pyarrow: some rows at a time, from any row on."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.core.errors import TextError, first_line, installed
from compressor.texts.rows.base import Block, Mark, RowFile
from compressor.texts.tables import named, text_column

_ROWS = 1024


@dataclass(frozen=True)
class ParquetRows(RowFile):
    """A column of texts, and one of ids: texts, or whole numbers."""

    column: str
    id_column: str | None
    ids_are_whole: bool

    @property
    def whole_ids(self) -> bool:
        return self.ids_are_whole

    def marks(self, first: int, every: int) -> tuple[int, list[Mark]]:
        with _opened(self.path) as file:
            count = int(file.metadata.num_rows)
        return count, [Mark(row) for row in dict.fromkeys((0, *range(first, count, every))) if row < count]

    def blocks(self, mark: Mark) -> Iterator[Block]:
        columns = [self.column] if self.id_column in (None, self.column) else [self.column, self.id_column]
        with _opened(self.path) as file:
            groups, row = _groups_from(file.metadata, mark.row)
            for batch in file.iter_batches(_ROWS, row_groups=groups, columns=columns, use_threads=False):
                if row + len(batch) > mark.row:
                    yield self._block(batch.slice(max(0, mark.row - row)), max(row, mark.row))
                row += len(batch)

    def _block(self, batch: Any, row: int) -> Block:
        texts = [text or "" for text in batch.column(self.column).to_pylist()]
        if self.id_column is None:
            return Block(texts, None)
        ids = batch.column(self.id_column).to_pylist()
        if None in ids:
            raise TextError(f"{self.path}: row {row + ids.index(None)}: {self.id_column} is null: no id")
        return Block(texts, ids if self.ids_are_whole else [str(name) for name in ids])


def open_parquet(path: Path, column: str | None, id_column: str | None) -> ParquetRows:
    """Open a file; TextError for a column that it has not, or that holds no texts or ids."""
    with _opened(path) as file:
        schema = file.schema_arrow
    types = {field.name: field.type for field in schema}
    wanted = text_column(str(path), [name for name in types if _is_text(types[name])], column, list(types))
    if id_column is None:
        return ParquetRows(path, wanted, None, False)
    kinds = {name: _id_kind(kind) for name, kind in types.items()}
    if kinds.get(id_column) is None:
        ids = named([name for name, kind in kinds.items() if kind])
        raise TextError(f"{path}: id_column = {id_column}: no column of texts or whole numbers; there are: {ids}")
    return ParquetRows(path, wanted, id_column, kinds[id_column] == "whole")


def _is_text(kind: Any) -> bool:
    types = installed("pyarrow", "pyarrow", "embed").types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _id_kind(kind: Any) -> str | None:
    types = installed("pyarrow", "pyarrow", "embed").types
    if types.is_integer(kind):
        return "text" if types.is_uint64(kind) else "whole"
    return "text" if _is_text(kind) else None


def _groups_from(metadata: Any, row: int) -> tuple[list[int], int]:
    """Return the row groups that hold ``row`` and those after it, and the number of their first row."""
    first = 0
    for group in range(metadata.num_row_groups):
        count = metadata.row_group(group).num_rows
        if first + count > row:
            return list(range(group, metadata.num_row_groups)), first
        first += count
    return [], first


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    arrow = installed("pyarrow", "pyarrow", "embed")
    parquet = installed("pyarrow.parquet", "pyarrow", "embed")
    try:
        with parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            yield file
    except (arrow.ArrowException, OSError) as error:
        raise TextError(f"{path}: not readable as Parquet: {textwrap.shorten(first_line(error), 240)}") from error
