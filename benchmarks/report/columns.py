"""Columns that tables of the docs share: a system, how large, how good and how fast it is; a figure has its unit."""

from benchmarks.report.numbers import MISSING, count, digits, fixed, ratio_range, size, with_unit
from benchmarks.report.results import Measure, Row, number, system_label
from benchmarks.report.table import Column

MODEL = Column("model", lambda row: system_label(row) or MISSING, words=True)
SIZE = Column("size", lambda row: size(row.get("size_bytes")))
TEXTS = Column("texts/s", lambda row: count(number(row, "offline", "texts_per_second")))
QUESTIONS = Column("questions/s", lambda row: count(number(row, "offline", "questions_per_second")))
RATIO = Column("speed vs teacher", lambda row: ratio_range(row.get("offline")))
LATENCY = Column("p50 latency", lambda row: with_unit(digits(number(row, "single_stream", "latency_ms_p50")), "ms"))
AGREEMENT = Column("cosine to the teacher", lambda row: fixed(number(row, "agreement", "cosine_mean"), 4))


def quality(measure: Measure, title: str = "") -> Column:
    """Return the column of a figure of quality, by default under its whole name."""

    def cell(row: Row) -> str:
        value = measure.of(row)
        return MISSING if value is None else measure.text(value)

    return Column(title or measure.label, cell)
