"""Files of texts: those that are named, those of a folder, those that a pattern fits."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from compressor.core.errors import TextError
from compressor.texts.reading import PACKED_SUFFIXES, TABLE_SUFFIXES, TEXT_SUFFIXES, kind_of, readable
from compressor.texts.rows.base import RowFile
from compressor.texts.rows.parquet import open_parquet
from compressor.texts.rows.plain import TextRows
from compressor.texts.rows.tables import CsvRows, JsonRows
from compressor.texts.tables import columns_of, named, text_column

IN_FOLDERS = (TEXT_SUFFIXES - {".md"}) | TABLE_SUFFIXES
"""What is read of a folder: a README beside the data is none of it."""


def find(sources: Sequence[str]) -> list[Path]:
    """Return the files that ``sources`` name: files, folders with all below them, patterns (``**`` for any depth).

    Those of a folder or a pattern are in the order of their paths; what begins with a dot or an underscore is left out
    of a folder. TextError for a source that holds none, and for a file that is named twice.
    """
    found = [path for source in sources for path in _files(os.path.expanduser(source))]
    seen: set[Path] = set()
    for path in found:
        if path.resolve() in seen:
            raise TextError(f"{path}: named twice; every text has one row")
        seen.add(path.resolve())
    return found


def open_rows(paths: Sequence[Path], column: str | None, id_column: str | None) -> list[RowFile]:
    """Open files, each by what its suffix says, and find their columns.

    ``column`` and ``id_column`` are for tables: TextError where none is one, for an id of a text file, and for a column
    that a table has not.
    """
    for name, value in (("column", column), ("id_column", id_column)):
        if value is not None and paths and not any(kind_of(path) in TABLE_SUFFIXES for path in paths):
            raise TextError(f"{paths[0]}: {name} = {value}: only tables have columns")
    return [_opened(path, column, id_column) for path in paths]


def _files(source: str) -> list[Path]:
    path = Path(source)
    if path.is_dir():
        below = sorted(inner for inner in path.rglob("*") if _is_data(inner.relative_to(path)) and inner.is_file())
        if not below:
            raise TextError(f"{path}: no file of texts in this folder; read are: {', '.join(sorted(IN_FOLDERS))}")
        return below
    if path.exists() or not glob.has_magic(source):
        return [path]
    fitting = sorted(Path(name) for name in glob.glob(source, recursive=True) if os.path.isfile(name))
    if not fitting:
        raise TextError(f"{source}: no file fits this pattern")
    return fitting


def _is_data(path: Path) -> bool:
    return kind_of(path) in IN_FOLDERS and not any(part.startswith((".", "_")) for part in path.parts)


def _opened(path: Path, column: str | None, id_column: str | None) -> RowFile:
    kind = kind_of(path)
    if kind in PACKED_SUFFIXES:
        raise TextError(f"{path}: a {kind} file is not read; give texts plain or .gz, or tables")
    with readable(path), path.open("rb"):
        pass
    if kind == ".parquet":
        return open_parquet(path, column, id_column)
    if kind not in TABLE_SUFFIXES:
        if id_column is not None:
            raise TextError(f"{path}: id_column = {id_column}: a text file has no ids")
        return TextRows(path)
    columns = columns_of(path)
    if not columns.names:  # no row
        wanted = column or ""
    else:
        texts = columns.names if column in columns.names else columns.texts
        wanted = text_column(str(path), texts, column, columns.names)
        if id_column is not None and id_column not in columns.names:
            raise TextError(f"{path}: id_column = {id_column}: no such column; there are: {named(columns.names)}")
    return (CsvRows if kind in (".csv", ".tsv") else JsonRows)(path, wanted, id_column)
