"""What the last system of a run has over the teacher: the headline of a page, and the cards below it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.report.numbers import digits, fixed, gain, percent, ratio_range, size, with_unit
from benchmarks.report.results import Measure, Row, found_of, number, rate_of, systems
from benchmarks.report.tasks import TaskPage


@dataclass(frozen=True)
class Gains:
    """How much better the artifact is; None for what was not measured on both."""

    smaller: float | None
    """Teacher's size over the artifact's."""
    faster: float | None
    """Median over the rounds of the artifact's rate over the teacher's."""
    sooner: float | None
    """Teacher's p50 latency of one text over the artifact's."""
    kept: float | None
    """Share of the teacher's quality: a ratio of scores, or the mean cosine itself."""

    @classmethod
    def of(cls, results: Row, measure: Measure | None) -> "Gains":
        """Compare the last system with the first, or the last stage where no system was measured."""
        rows = systems(results) or results.get("story") or []
        if len(rows) < 2:
            return cls(None, None, None, None)
        teacher, artifact = rows[0], rows[-1]
        return cls(
            smaller=_over(number(teacher, "size_bytes"), number(artifact, "size_bytes")),
            faster=number(artifact, "offline", "ratio"),
            sooner=_over(_latency(teacher), _latency(artifact)),
            kept=_over(measure.of(artifact), measure.of(teacher)) if measure else None,
        )

    def headline(self, measure: Measure | None) -> str:
        """Say the gains in one line, leaving out what was not measured; empty where nothing was."""
        parts = [gain(self.smaller, "smaller", "larger"), gain(self.faster, "faster", "slower")]
        if measure and self.kept is not None:
            agreement = measure.own is not None
            share = f"{percent(self.kept)} of the teacher's {measure.name}"
            parts.append(f"cosine {self.kept:.3f} to the teacher" if agreement else share)
        return ", ".join(part for part in parts if part)


class Card(NamedTuple):
    """One figure of the artifact at the top of a page, and the teacher's."""

    title: str
    value: str
    note: str


def cards(results: Row, task: TaskPage) -> Iterator[Card]:
    """Yield a card for each figure that was measured of both the teacher and the artifact."""
    rows = systems(results)
    if len(rows) < 2:
        return
    teacher, artifact = rows[0], rows[-1]
    gains = Gains.of(results, None)
    if gains.smaller:
        yield Card("Size on disk", size(artifact["size_bytes"]), f"teacher {size(teacher['size_bytes'])}")
    if gains.faster:
        own, base = (digits(rate_of(row.get("offline"), task.unit)) for row in (artifact, teacher))
        title = f"{task.unit.capitalize()} a second"
        yield Card(title, own, f"{ratio_range(artifact['offline'])} of the teacher's {base}")
    if gains.sooner:
        own, base = (with_unit(digits(_latency(row)), "ms") for row in (artifact, teacher))
        yield Card(f"One {task.one}, p50", own, f"teacher {base}")
    for measure in task.measures(results):
        value, full = measure.of(artifact), measure.of(teacher)
        if value is not None and full is not None:
            note = f"teacher {measure.text(full)}, {measure.scale}"
            yield Card(measure.title, measure.text(value), note)
    if (own_found := found_of(artifact)) is not None and (full_found := found_of(teacher)):
        share = percent(own_found / full_found)
        yield Card("Retrieval", fixed(own_found, 1), f"{share} of the teacher's {fixed(full_found, 1)}, nDCG@10 × 100")
    if (same := number(artifact, "agreement", "neighbours_at_10")) is not None:
        yield Card("Same neighbours", f"{fixed(100 * same, 1)} %", "of the teacher's 10 nearest, held-out texts")
    if artifact.get("peak_memory_bytes"):
        memory, base = (size(row.get("peak_memory_bytes")) for row in (artifact, teacher))
        yield Card("Peak memory", memory, f"teacher {base}")


def _over(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _latency(row: Row) -> float | None:
    return number(row, "single_stream", "latency_ms_p50")
