"""Tables of systems and stages: columns that the pages of docs share, and the tables of a report.

On a page of docs a cell has its unit, in a report the title has it; a report leaves out columns without any figure.
"""

from collections.abc import Callable, Iterable, Sequence

from benchmarks.report.numbers import (
    MISSING,
    count,
    digits,
    duration,
    fixed,
    megabytes,
    millions,
    percent,
    ratio_range,
    size,
    with_unit,
)
from benchmarks.report.results import Measure, Row, found_of, number, rate_of, stage_name, system_label, systems
from benchmarks.report.table import Column, Table
from benchmarks.report.tasks import TaskPage
from exporters.runtime.names import CPU
from exporters.runtime.placed import nodes

MODEL = Column("model", lambda row: system_label(row) or MISSING, words=True)
SIZE = Column("size", lambda row: size(row.get("size_bytes")))
TEXTS = Column("texts/s", lambda row: count(number(row, "offline", "texts_per_second")))
QUESTIONS = Column("questions/s", lambda row: count(number(row, "offline", "questions_per_second")))
RATIO = Column("speed vs teacher", lambda row: ratio_range(row.get("offline")))
LATENCY = Column("p50 latency", lambda row: with_unit(digits(number(row, "single_stream", "latency_ms_p50")), "ms"))
AGREEMENT = Column("cosine to the teacher", lambda row: fixed(number(row, "agreement", "cosine_mean"), 4))
_AGREEMENT = [
    Column("Cosine\nmean", lambda row: fixed(number(row, "agreement", "cosine_mean"), 4)),
    Column("Cosine\np1", lambda row: fixed(number(row, "agreement", "cosine_p1"), 4)),
    Column("Cosine\nlowest", lambda row: fixed(number(row, "agreement", "cosine_min"), 4)),
    Column("Neighbours\nat 10", lambda row: fixed(number(row, "agreement", "neighbours_at_10"), 3)),
    Column("Ranking\nkept", lambda row: fixed(number(row, "agreement", "ndcg_at_10"), 1)),
]
RETRIEVAL = Column("retrieval, nDCG@10 × 100", lambda row: fixed(found_of(row), 1))
_RETRIEVAL = Column("Retrieval\nnDCG@10", lambda row: fixed(found_of(row), 1))
_ON_INDEX = Column("On the teacher's\nindex", lambda row: fixed(found_of(row, "on_teachers_index"), 1))
_SYSTEM = Column("System", system_label, words=True)
_PARAMETERS = Column("Parameters\nmillions", lambda row: millions(row.get("parameters")))
_SIZE = Column("Size\nMB", lambda row: megabytes(row.get("size_bytes")))


def quality(measure: Measure, title: str = "") -> Column:
    """Return the column of a figure of quality, by default under its whole name."""

    def cell(row: Row) -> str:
        value = measure.of(row)
        return MISSING if value is None else measure.text(value)

    return Column(title or measure.label, cell)


def printed(results: Row, task: TaskPage) -> Table:
    """Lay out a row a system, for a terminal of 80 columns."""
    columns = [
        Column("system", lambda row: str(row.get("name") or row.get("label") or MISSING), words=True),
        Column("size MB", lambda row: megabytes(row.get("size_bytes"))),
        *(quality(measure, measure.name) for measure in task.measures(results)),
        *([Column("nDCG@10", RETRIEVAL.cell)] if any(found_of(row) for row in systems(results)) else []),
        *([Column("nodes on CPU", _fallen)] if any(row.get("placed") for row in systems(results)) else []),
        Column(f"{task.unit}/s", _rate(task.unit)),
        Column("to teacher", lambda row: ratio_range(row.get("offline"), to="..")),
        Column("p50/p99 ms", lambda row: "/".join(digits(_latency(row, p)) for p in ("p50", "p99"))),
        Column("peak MB", lambda row: megabytes(row.get("peak_memory_bytes"))),
    ]
    return Table(columns, systems(results))


def measured(results: Row, task: TaskPage) -> Table:
    """Lay out a row a system: size, quality, speed, latency and memory."""
    columns = [
        Column(_SYSTEM.title, system_label, words=True, note=_provider),
        _PARAMETERS,
        _SIZE,
        *_qualities(task.measures(results)),
        _RETRIEVAL,
        Column(f"{task.unit.capitalize()}/s", _rate(task.unit)),
        Column("Ratio to teacher", lambda row: ratio_range(row.get("offline"))),
        Column("Batch", lambda row: count(number(row, "offline", "batch_size"))),
        *(Column(f"{name}\nms", _percentile(name)) for name in ("p50", "p90", "p99")),
        Column("Peak\nMB", lambda row: megabytes(row.get("peak_memory_bytes"))),
        Column("Load\ns", lambda row: digits(row.get("load_seconds"))),
    ]
    return _of_systems(columns, results)


def _fallen(row: Row) -> str:
    """Return how many nodes run on the CPU provider, of how many, where another was asked for."""
    placed = row.get("placed")
    return f"{nodes(placed, CPU)} of {nodes(placed)}" if placed else ""


def _provider(row: Row) -> str:
    fallen = _fallen(row)
    return str(row.get("provider") or "") + (f", {fallen} nodes on {CPU}" if fallen else "")


def agreement(results: Row) -> Table:
    """Lay out a row a system: agreement with the teacher's vectors, and the score on each test set."""
    files = keys(row.get("sts") for row in [*systems(results), *(results.get("story") or [])])
    return _of_systems([_SYSTEM, *_AGREEMENT, *(Column(file, _score(file)) for file in files)], results)


def found(results: Row, named: Callable[[Row], str] = system_label) -> Table:
    """Lay out a row a system and collection: what it finds there, and what its queries find on the teacher's index."""
    shown = systems(results)
    rows = [
        (system, place, name, figures)
        for system in shown
        for place, (name, figures) in enumerate((system.get("retrieval") or {}).items())
    ]
    columns = [
        Column(_SYSTEM.title, lambda row: "" if row[1] else named(row[0]), words=True),
        Column("Collection", lambda row: row[2], words=True),
        Column("nDCG@10", _found("ndcg_at_10")),
        *(Column(f"Recall@{count}", _found(f"recall_at_{count}")) for count in (1, 10, 100)),
        Column("MRR@10", _found("mrr_at_10")),
        Column("nDCG@10 on the teacher's index", _found("on_teachers_index", "ndcg_at_10")),
    ]
    return Table(columns, rows, lambda row: row[0] is shown[-1]).filled()


def batches(results: Row) -> Table:
    """Lay out a row a system: its rate at each batch size that was tried."""
    sizes = keys((row.get("offline") or {}).get("by_batch_size") for row in systems(results))
    return _of_systems([_SYSTEM, *(Column(batch, _at_batch(batch)) for batch in sizes)], results)


def lengths(results: Row, task: TaskPage) -> Table:
    """Lay out a row a system and length: latency and rate."""
    shown = systems(results)
    rows = [(system, place, row) for system in shown for place, row in enumerate(system.get("by_length") or [])]
    columns = [
        Column("System", lambda row: "" if row[1] else system_label(row[0]), words=True),
        Column("Tokens", lambda row: count(row[2].get("tokens"))),
        Column("p50 ms", lambda row: digits(row[2].get("latency_ms_p50"))),
        Column(f"{task.unit.capitalize()}/s", lambda row: digits(rate_of(row[2], task.unit))),
        Column("Ratio to teacher", lambda row: ratio_range(row[2])),
    ]
    return Table(columns, rows, lambda row: row[0] is shown[-1]).filled()


def served(results: Row, task: TaskPage) -> Table:
    """Lay out a row a system that was measured as a server."""
    columns = [
        _SYSTEM,
        Column(f"{task.unit.capitalize()}/s", lambda row: digits(number(row, "server", "rate"))),
        Column("of Offline", lambda row: _of_offline(row, task.unit)),
        Column("p50\nms", lambda row: digits(number(row, "server", "latency_ms_p50"))),
        Column("p99\nms", lambda row: digits(number(row, "server", "latency_ms_p99"))),
    ]
    return Table(columns, [row for row in systems(results) if row.get("server")])


def story(results: Row, task: TaskPage) -> Table:
    """Lay out a row a stage, from the teacher to the artifact."""
    rows = results.get("story") or []
    columns = [
        Column("Stage", stage_name, words=True, note=lambda row: str(row.get("what") or "")),
        Column("Layers", lambda row: count(row.get("layers"))),
        Column("Width", lambda row: count(row.get("dim"))),
        _PARAMETERS,
        _SIZE,
        *_qualities(task.measures(results)),
        _RETRIEVAL,
        _ON_INDEX,
        *_AGREEMENT,
        Column("Took", lambda row: duration(row.get("seconds"))),
    ]
    return Table(columns, rows, lambda row: row is rows[-1]).filled()


def keys(rows: Iterable[Row | None]) -> list[str]:
    """Return every key of ``rows`` once, in the order they are met."""
    return list(dict.fromkeys(key for row in rows for key in row or {}))


def _of_systems(columns: Sequence[Column], results: Row) -> Table:
    rows = systems(results)
    return Table(columns, rows, lambda row: row is rows[-1]).filled()


def _qualities(measures: Iterable[Measure]) -> list[Column]:
    return [quality(measure, measure.title) for measure in measures]


def _latency(row: Row, name: str) -> float | None:
    return number(row, "single_stream", f"latency_ms_{name}")


def _percentile(name: str) -> Callable[[Row], str]:
    return lambda row: digits(_latency(row, name))


def _rate(unit: str) -> Callable[[Row], str]:
    return lambda row: digits(rate_of(row.get("offline"), unit))


def _score(file: str) -> Callable[[Row], str]:
    return lambda row: fixed(number(row, "sts", file), 2)


def _found(*place: str) -> Callable[[tuple[Row, int, str, Row]], str]:
    return lambda row: fixed(number(row[3], *place), 1)


def _at_batch(batch: str) -> Callable[[Row], str]:
    return lambda row: digits(number(row, "offline", "by_batch_size", batch))


def _of_offline(row: Row, unit: str) -> str:
    rate, most = number(row, "server", "rate"), rate_of(row.get("offline"), unit)
    return MISSING if rate is None or not most else percent(rate / most)
