"""What a recipe is for decides its sections, its flow and its table."""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from compressor.core.config import Config
from compressor.core.errors import RecipeError

EMBEDDING, ANSWERING = "sentence-embedding", "question-answering"


Print = Callable[[dict[str, Any], Console], None]
Write = Callable[[dict[str, Any], Path], None]


@dataclass(frozen=True)
class Task:
    """The recipe of a task, the flow that it is run by, and the table of its results."""

    schema: type[Config]
    run: Callable[[Any, Path, Path, str], dict[str, Any]]
    print_table: Print


def task_of(recipe: Path) -> Task:
    """Return the task that a recipe states, by default sentence embedding; RecipeError for one that is not known."""
    try:
        stated = tomllib.loads(recipe.read_text(encoding="utf-8")).get("task", EMBEDDING)
    except (OSError, ValueError, RecursionError):
        stated = EMBEDDING  # reading it as one says what is wrong
    if stated == EMBEDDING:
        from benchmarks.report.page import print_table
        from compressor.flow.embedding import Recipe, run

        return Task(Recipe, run, print_table)
    if stated == ANSWERING:
        from benchmarks.report.reader_report import print_readers
        from compressor.flow.answering import ReaderRecipe, run_reader

        return Task(ReaderRecipe, run_reader, print_readers)
    raise RecipeError(f"{recipe}: task = {stated!a:.80}: must be {EMBEDDING} or {ANSWERING}")


def page_of(results: dict[str, Any]) -> tuple[Write, Print]:
    """Return what writes the page of a run's results, and what prints their table."""
    if results.get("task") == ANSWERING:
        from benchmarks.report.reader_report import print_readers, write_reader_report

        return write_reader_report, print_readers
    from benchmarks.report.page import print_table, write_report

    return write_report, print_table
