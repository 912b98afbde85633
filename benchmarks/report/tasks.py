"""What differs between the reports of tasks: what is counted, what quality is, and a few sentences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from benchmarks.report import readers
from benchmarks.report.numbers import count
from benchmarks.report.results import COSINE, EXACT, F1, Measure, Row, number, similarity
from exporters.tasks import ANSWERING, EMBEDDING


class Picture(NamedTuple):
    """A picture of a page, with what stands above it; without a drawing it is left out."""

    svg: str
    title: str
    note: str = ""


@dataclass(frozen=True)
class TaskPage:
    """The report of a task; by itself one of whose quality nothing is known."""

    unit: str = "texts"
    """What is counted a second, many of it."""
    way: str = ""
    """What goes in and what comes out."""
    timed: str = ""
    """The sentence on what counts as time."""
    measures: Callable[[Row], Sequence[Measure]] = lambda results: ()
    """Gives what quality is measured by; the first stands for it in headlines and pictures."""
    meaning: Callable[[Row], str] = lambda results: ""
    """Gives the sentence on what quality is."""
    pictures: Callable[[Row], Sequence[Picture]] = lambda results: ()
    """Gives the pictures beside those of every task."""

    @property
    def one(self) -> str:
        """Name one of the unit."""
        return self.unit.removesuffix("s")


def _quality_of_vectors(results: Row) -> str:
    measure = similarity(results)
    if measure == COSINE:
        return f"Quality is the {measure.label}'s vectors on held-out texts."
    return f"Quality is {measure.label}."


def _quality_of_answers(results: Row) -> str:
    asked = number(results, "questions", "test", "questions")
    judged = f", over {count(asked)} questions" if asked is not None else ""
    return f"F1 and exact match (EM) are points from 0 to 100, as SQuAD's evaluation defines them{judged}."


def _pictures_of_answers(results: Row) -> list[Picture]:
    note = "A filled circle is F1, an open one exact match; up is better, to the left on size, to the right on speed."
    return [Picture(readers.picture(results), "F1 and exact match against size and speed", note)]


PAGES = {
    EMBEDDING: TaskPage(
        unit="texts",
        way="Text in, vectors out",
        timed="Tokenizing, batching, the graph, pooling and normalizing all count.",
        measures=lambda results: (similarity(results),),
        meaning=_quality_of_vectors,
    ),
    ANSWERING: TaskPage(
        unit="questions",
        way="Question and context in, answer out",
        timed="Tokenizing, windows, the graph and the choice of the span all count.",
        measures=lambda results: (F1, EXACT),
        meaning=_quality_of_answers,
        pictures=_pictures_of_answers,
    ),
}
"""By the ``task`` of results; results that state none are of sentence embedding."""


def page_of(results: Row) -> TaskPage:
    """Return what is particular to results: their task's, with the unit that their benchmark states."""
    task = PAGES.get(str(results.get("task") or EMBEDDING), TaskPage())
    unit = (results.get("bench") or {}).get("unit")
    return replace(task, unit=str(unit)) if unit else task
