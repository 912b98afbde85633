"""One table says the same on the terminal and in Markdown, and nothing in it is read as either's markup."""

import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.report.numbers import MISSING, fixed
from benchmarks.report.table import Column, Table

ROWS = [{"name": "[bold]a | b[/]", "f1": 51.234}, {"name": "c", "f1": None}]
NAME, F1 = (
    Column("model", lambda row: row["name"], words=True),
    Column("F1,\nheld out", lambda row: fixed(row["f1"], 2)),
)


def printed(table: Table, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    table.print(console)
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [line.strip() for line in lines if line.strip()]


def test_markdown_escapes_names_and_leaves_figures() -> None:
    brackets = Column("ratio", lambda row: "8.13× [7.95–8.31]")
    assert Table([NAME, F1, brackets], ROWS).markdown().splitlines() == [
        "| model | F1, held out | ratio |",
        "|---|---:|---:|",
        "| \\[bold\\]a \\| b\\[/\\] | 51.23 | 8.13× [7.95–8.31] |",
        "| c | – | 8.13× [7.95–8.31] |",
    ]


def test_a_row_that_stands_out_is_bold() -> None:
    lines = Table([NAME, F1], ROWS, lambda row: row is ROWS[1]).markdown().splitlines()
    assert lines[2].startswith("| \\[bold\\]a")
    assert lines[3] == "| **c** | – |"


def test_the_terminal_shows_names_as_they_are_and_figures_on_the_right() -> None:
    head, _, first, second = printed(Table([NAME, F1], ROWS))
    assert head == "model           F1, held out"
    assert first == "[bold]a | b[/]         51.23"
    assert second == "c                          –"


def test_what_is_too_wide_is_broken_between_words() -> None:
    brackets = Column("ratio to", lambda row: "8.13× [7.95..8.31]")
    lines = printed(Table([NAME, F1, brackets], [ROWS[1]]), width=36)
    assert [line.split() for line in lines] == [
        ["model", "F1,", "held", "out", "ratio", "to"],
        ["─" * 34],
        ["c", MISSING, "8.13×"],
        ["[7.95..8.31]"],
    ]


def test_what_does_not_fit_is_folded_and_not_cut() -> None:
    long: dict[str, Any] = {"name": "x" * 100, "f1": 1.0}
    lines = printed(Table([NAME, F1], [long]), width=40)
    assert "".join(lines).count("x") == 100
    assert {"model", "F1,", "held", "out"} <= {word for line in lines for word in line.split()}
    assert "".join(printed(Table([NAME, F1], [long]), width=12)).count("x") == 100


@pytest.mark.parametrize(("value", "titles"), [(None, ["model"]), (0.0, ["model", "F1,\nheld out"])])
def test_columns_without_anything_are_left_out(value: float | None, titles: list[str]) -> None:
    rows = [{"name": MISSING, "f1": None}, {"name": MISSING, "f1": value}]
    empty = Column("empty", lambda row: "")
    assert [column.title for column in Table([NAME, F1, empty], rows).filled().columns] == titles


def test_a_table_without_rows_is_its_head() -> None:
    assert Table([NAME, F1], []).markdown() == "| model | F1, held out |\n|---|---:|"
    assert printed(Table([NAME, F1], []))[0] == "model  F1, held out"
