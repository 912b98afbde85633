"""Progress of long work: a live bar on a terminal, a line every half minute elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text


def plain_console(stderr: bool = False) -> Console:
    """Return a console that prints text as it is: brackets and colons in a name are no markup, numbers no colour."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


console = plain_console(stderr=True)
_LINE_EVERY_SECONDS = 30.0


@contextmanager
def track(
    label: str, total: int, unit: str = "texts", left: Callable[[], float] | None = None
) -> Iterator[Callable[[int], None]]:
    """Show ``label`` while the body runs; the body calls the given function with each amount done.

    Where ``left`` tells the seconds that are left, ``total`` is not known, and is guessed from the rate so far.
    """
    show = _bar if console.is_terminal else _lines
    with show(label, total, unit, left) as advance:
        yield advance


@contextmanager
def _bar(label: str, total: int, unit: str, left: Callable[[], float] | None) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(f"{{task.fields[rate]}} {unit}/s", markup=False),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    start = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(label, total=total, rate="…")

        def advance(amount: int) -> None:
            done = progress.tasks[task].completed + amount
            rate = done / max(time.monotonic() - start, 1e-9)
            whole = done + round(rate * left()) if left else total
            progress.update(task, advance=amount, total=whole, rate=f"{rate:,.0f}")

        yield advance


@contextmanager
def _lines(label: str, total: int, unit: str, left: Callable[[], float] | None) -> Iterator[Callable[[int], None]]:
    start = shown = time.monotonic()
    done = 0

    def advance(amount: int) -> None:
        nonlocal done, shown
        done += amount
        now = time.monotonic()
        if now - shown >= _LINE_EVERY_SECONDS:
            shown = now
            rate = done / (now - start)
            seconds = left() if left else (total - done) / rate if rate else 0.0
            of = "" if left else f" of {total:,}"
            console.print(f"  {label}: {done:,}{of}, {rate:,.0f} {unit}/s, {seconds:,.0f} s left", soft_wrap=True)

    yield advance


def say(*parts: str | tuple[str, str]) -> None:
    """Print one line of the story as it happens; a part is text as it is, or that with its style."""
    console.print(Text.assemble(*parts), soft_wrap=True)
