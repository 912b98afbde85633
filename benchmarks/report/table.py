"""One table for the terminal, for Markdown and for a page: columns, each with its title and what writes its cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table as Printed
from rich.text import Text

from benchmarks.report.numbers import MISSING
from compressor.core.markdown import escaped


@dataclass(frozen=True)
class Column:
    """A column; the first of a table names its rows and stands on the left."""

    title: str
    """On a page a line break in it is one, elsewhere a space."""
    cell: Callable[[Any], str]
    """Writes the cell of a row; empty, or ``MISSING`` for a figure that is not there."""
    words: bool = False
    """Whether the cells are names and other people's words, to be escaped in Markdown; figures are written as they
    are."""
    note: Callable[[Any], str] | None = None
    """Writes what stands below the cell on a page, in small letters."""


@dataclass(frozen=True)
class Table:
    """Rows of any kind, which the columns know how to read."""

    columns: Sequence[Column]
    rows: Sequence[Any]
    stressed: Callable[[Any], bool] = lambda row: False
    """Whether a row stands out: its name bold in Markdown, the row coloured on a page."""

    def filled(self) -> "Table":
        """Return the table without the columns in which no row has anything."""
        first, *others = self.columns
        kept = [column for column in others if any(column.cell(row) not in ("", MISSING) for row in self.rows)]
        return replace(self, columns=[first, *kept])

    def markdown(self) -> str:
        """Render the table as Markdown."""
        titles = [escaped(column.title) for column in self.columns]
        lines = [_line(titles), "|---|" + "---:|" * (len(titles) - 1)]
        return "\n".join([*lines, *(_line(self._markdown_cells(row)) for row in self.rows)])

    def _markdown_cells(self, row: Any) -> list[str]:
        cells = [escaped(column.cell(row)) if column.words else column.cell(row) for column in self.columns]
        return [f"**{cells[0]}**", *cells[1:]] if cells[0] and self.stressed(row) else cells

    def print(self, console: Console) -> None:
        """Print the table; what is too wide is broken between words, or folded, and nothing in it is read as markup."""
        cells = [[" ".join(c.title.split()), *(c.cell(row) for row in self.rows)] for c in self.columns]
        printed = Printed(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        room = console.width - 2 * len(cells) - 1  # beside the columns' edges
        for place, (column, width) in enumerate(zip(self.columns, _widths(cells, room), strict=True)):
            justify: JustifyMethod = "right" if place and not column.words else "left"
            printed.add_column(Text(cells[place][0]), justify=justify, overflow="fold", width=width)
        for row in zip(*(column[1:] for column in cells), strict=True):
            printed.add_row(*map(Text, row))
        console.print(printed)


def _widths(cells: Sequence[Sequence[str]], room: int) -> Sequence[int | None]:
    """Narrow the widest columns until all fit: to their longest word, then to that of the title; None for no width."""
    widths = [max(map(cell_len, column)) for column in cells]
    words = [[max(map(cell_len, cell.split(" "))) for cell in column] for column in cells]
    for least in ([max(lengths) for lengths in words], [lengths[0] for lengths in words]):
        while sum(widths) > room and (wide := [place for place, width in enumerate(widths) if width > least[place]]):
            widths[max(wide, key=lambda place: widths[place])] -= 1
    return widths if sum(widths) <= room else [None] * len(widths)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
