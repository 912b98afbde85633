"""Texts from the columns of tables: CSV and lines of JSON, plain or .gz, Parquet, and data sets."""

import csv
import glob
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from compressor.artifact.folder import key_of
from compressor.core.errors import TextError, first_line
from compressor.texts.reading import GZIP_RATIO, Reading, file_identity, kind_of, lines, readable

TEXT_COLUMNS = ("text", "texts", "sentence", "content", "passage", "document", "paragraph", "body")
"""Names of columns that hold the texts where there are others besides."""

_ID = re.compile(r"(^|[_-])(id|ids|idx|index|key|uuid|guid|hash|url|uri)$", re.IGNORECASE)
_SAMPLE = 1000  # rows that tell which columns hold text
_ROWS, _ROW_BYTES = 1000, 100  # rows of a data set read at a time, and about what one holds
_MOST_NAMED, _MOST_SHOWN = 8, 40  # columns named in a message, and letters of each


def dataset_reading(source: str, split: str, column: str | None) -> Reading:
    """Open a data set, ``name`` or ``name:config``; its rows stay on disk (Arrow) and are read in blocks."""
    name, _, config = source.partition(":")
    from datasets import load_dataset  # here: it takes a second to import

    try:
        rows: Any = load_dataset(name, config or None, split=split)
    except Exception as error:  # hub, network, parser: each has errors of its own
        reason = textwrap.shorten(str(error) or type(error).__name__, 240, placeholder=" …")
        raise TextError(f"{source}: no file, and as a data set not to be had: {reason}") from error
    # datasets' own hash of the rows: it changes with their files and with all that was done to them
    return _of_rows(source, rows, key_of("data set", rows._fingerprint), column)


def table_reading(source: str, path: Path, column: str | None) -> Reading:
    """Open a table of TABLE_SUFFIXES; TextError for one without a header, a sound first row or a column of texts."""
    with readable(path), path.open("rb"):
        size, identity = path.stat().st_size, file_identity(path)
    if kind_of(path) == ".parquet":
        return _of_rows(source, _parquet(path), identity, column)
    columns = columns_of(path)
    wanted = text_column(source, columns.texts, column, columns.names)
    size *= GZIP_RATIO if path.suffix.lower() == ".gz" else 1
    return Reading(source, key_of("table", identity, wanted), size, lambda: _texts(path, wanted), wanted)


class Columns(NamedTuple):
    """What a table's first rows show of its columns."""

    names: list[str]
    texts: list[str]
    """Those that hold texts."""


def columns_of(path: Path) -> Columns:
    """Look at the first rows of a table of lines; TextError where they are none. Without a row it has no columns."""
    sample = [row for _, row in islice(_records(path), _SAMPLE)]
    names = list(dict.fromkeys(name for row in sample for name in row))
    return Columns(names, [name for name in names if any(_is_text(row.get(name)) for row in sample)])


def text_column(source: str, texts: Sequence[str], column: str | None, columns: Sequence[str]) -> str:
    """Return the column to read of those that hold ``texts``: the one named, or the only one that may be meant.

    That is the only one with a name of TEXT_COLUMNS, or else the only one that does not look like ids. TextError
    where there is none, or several.
    """
    if column is not None:
        if column in texts:
            return column
        raise TextError(f"{source}: column = {column}: no such text column; there are: {named(texts or columns)}")
    known = [name for name in texts if name.strip().lower() in TEXT_COLUMNS]
    candidates = known or [name for name in texts if not _ID.search(name.strip())]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        asked = "name the one to read as texts.column, of a command as --column"
        raise TextError(f"{source}: several columns hold texts: {named(candidates)}; {asked}")
    raise TextError(f"{source}: no text column; there are: {named(texts or columns)}")


def delimiter_of(path: Path) -> str:
    """Return what separates the cells of a .csv or .tsv file."""
    return "\t" if kind_of(path) == ".tsv" else ","


def csv_rows(
    path: Path, delimiter: str = ",", source: Iterable[str] | None = None, before: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a file, plain or .gz, each with the number of the line that it begins on; blank ones as [].

    ``source`` are its lines after the first ``before``, where not all are to be read. Quotes are nothing special where
    tabs separate. Raises TextError, with that line, for what cannot be read and for a quoted field with lines in it
    that are rows themselves: a quote too many has swallowed them.
    """
    quoting: Any = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    given = lines(path) if source is None else source
    rows = csv.reader(given, strict=True, delimiter=delimiter, quoting=quoting)
    while True:
        start = before + rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            last = before + rows.line_num
            raise TextError(f"{path}: line {start} is not readable as CSV ({_reason(error, start, last)})") from error
        if row is None:
            return
        last = before + rows.line_num
        if last > start and _swallows(row, delimiter):
            raise TextError(
                f"{path}: line {start}: a quoted field reaches to line {last} and holds rows; "
                "close its quote, or double it where it is a part of the text"
            )
        yield start, row


def _reason(error: csv.Error, start: int, last: int) -> str:
    reason = first_line(error).partition(" - ")[0]
    return reason if last <= start else f"its quoted field goes on to line {last}: {reason}"


def csv_names(path: Path, rows: Iterator[tuple[int, list[str]]]) -> list[str]:
    """Take the first row that is not blank, the names of the columns; TextError where one comes twice."""
    names = next((row for _, row in rows if row), [])
    if len(set(names)) < len(names):
        raise TextError(f"{path}: its first line names a column twice: {named(names)}")
    return names


def _swallows(row: Sequence[str], delimiter: str) -> bool:
    """Tell whether a line inside a field is a row by itself: as many cells, and numbers where this one has them."""
    pieces = [piece for cell in row if "\n" in cell for piece in cell.splitlines()]
    try:
        return len(row) > 1 and any(_is_row(cells, row) for cells in csv.reader(pieces, delimiter=delimiter))
    except csv.Error:  # a quote in it opens more than a field may hold: no row from there on
        return False


def _is_row(cells: Sequence[str], row: Sequence[str]) -> bool:
    return len(cells) == len(row) and all(
        own and not own.startswith(" ") and (_is_number(own) or not _is_number(cell))
        for own, cell in zip(cells, row, strict=True)
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_text(cell: Any) -> bool:
    return isinstance(cell, str) and bool(cell.strip()) and not _is_number(cell)


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a table by their columns' names, each with its line."""
    return json_rows(path) if kind_of(path) in (".json", ".jsonl", ".ndjson") else _csv_records(path)


def _csv_records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    rows = ((line, row) for line, row in csv_rows(path, delimiter_of(path)) if row)
    names = csv_names(path, rows)
    for line, row in rows:
        if len(row) != len(names):
            raise TextError(f"{path}: line {line} has {len(row)} columns, the first line {len(names)}")
        yield line, dict(zip(names, row, strict=True))


def json_rows(
    path: Path, source: Iterable[str] | None = None, before: int = 0
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the objects of a file of JSON lines, plain or .gz, each with its line; TextError for what is none.

    ``source`` are its lines after the first ``before``, where not all are to be read.
    """
    for number, line in enumerate(lines(path) if source is None else source, start=before + 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TextError(f"{path}: line {number} is no JSON ({error}); one object a line is read") from error
        if not isinstance(row, dict):
            raise TextError(f"{path}: line {number} is no object; one object a line is read")
        yield number, row


def _texts(path: Path, column: str) -> Iterator[str]:
    for line, row in _records(path):
        text = row.get(column)
        if not isinstance(text, str | None):
            raise TextError(f"{path}: line {line}: {column} = {text!r:.40}: no text")
        yield text or ""


def _parquet(path: Path) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset("parquet", data_files=glob.escape(str(path)), split="train")
    except Exception as error:  # pyarrow's, and datasets' around them
        reason = first_line(error.__cause__ or error)
        raise TextError(f"{path}: not readable as Parquet: {textwrap.shorten(reason, 240)}") from error


def _of_rows(source: str, rows: Any, identity: str, column: str | None) -> Reading:
    texts = [name for name, kind in rows.features.items() if getattr(kind, "dtype", "").endswith("string")]
    wanted = text_column(source, texts, column, list(rows.features))
    return Reading(source, key_of(identity, wanted), rows.num_rows * _ROW_BYTES, _column(rows, wanted), column=wanted)


def _column(rows: Any, name: str) -> Callable[[], Iterable[str]]:
    def texts() -> Iterator[str]:
        for block in rows.select_columns([name]).iter(batch_size=_ROWS):
            for text in block[name]:
                yield text or ""

    return texts


def named(columns: Sequence[str]) -> str:
    """List columns for a message, long ones cut short, the first few of many."""
    shown = [textwrap.shorten(name, _MOST_SHOWN, placeholder=" …") or '""' for name in columns[:_MOST_NAMED]]
    return ", ".join([*shown, *(["…"] if len(columns) > _MOST_NAMED else [])]) or "none"
