"""The table of a trade-off of depth or of size, and what its rows mean.

The results have the shape of a run's (``bench.systems``, the teacher first); a system has, besides, ``layers``,
``kept``, ``precision``, ``share``, ``train_seconds``, ``gate`` and ``artifact``. Of a trade-off of size, ``varied`` is
``size``; a system has its ``plan`` in words and the ``size`` that it was planned for, and ``size_bytes`` are those of
the whole folder.
"""

from collections.abc import Mapping, Sequence

from benchmarks.report.markdown import escaped, source
from benchmarks.report.numbers import MISSING, count, digits, duration, fixed, percent
from benchmarks.report.results import COSINE, Row, found_of, number, spearman, system_label, systems
from benchmarks.report.table import Column, Table
from benchmarks.report.tables import AGREEMENT, RATIO, RETRIEVAL, SIZE, TEXTS, quality

FORMAT = "compressor-tradeoff/1"
PASSED = "passed"


def depth_name(layers: int) -> str:
    """Name the folder of a student of so many layers."""
    return f"{layers}-layers"


def label_of(layers: int) -> str:
    """Name a student of so many layers for a reader."""
    return {0: "no layers (static)", 1: "1 layer"}.get(layers, f"{layers} layers")


def is_of_sizes(results: Row) -> bool:
    """Tell whether it is sizes that were varied, not layers."""
    return results.get("varied") == "size"


_PLAN = Column("what it is", lambda row: str(row.get("plan") or MISSING), words=True)
_BYTES = Column("bytes, whole folder", lambda row: count(row.get("size_bytes")))
_SHARE_FOUND = Column("share of what the teacher finds", lambda row: percent(row.get("retrieval_share"), " "))


def measure_of(rows: Sequence[Row]) -> dict[str, str]:
    """Choose what quality is: ``{"sts": file}``, the first with the teacher above 0, or ``{"agreement": figure}``.

    Agreement is the mean cosine to the teacher, or the neighbours in common where a row has no cosine.
    """
    for file in rows[0].get("sts") or {}:
        if all(number(row, "sts", file) is not None for row in rows) and rows[0]["sts"][file] > 0:
            return {"sts": file}
    cosines = all(number(row, "agreement", "cosine_mean") is not None for row in rows[1:])
    return {"agreement": "cosine_mean" if cosines else "neighbours_at_10"}


def with_share(rows: Sequence[Row], measure: Mapping[str, str]) -> list[Row]:
    """Return the rows, each with its ``share`` of the teacher's quality: of its Spearman, or the agreement itself.

    And with its ``retrieval_share`` of what the teacher finds (mean nDCG@10), where that was measured.
    """
    rows = _with_found_share(rows)
    if "sts" in measure:
        file = measure["sts"]
        return [row | {"share": row["sts"][file] / rows[0]["sts"][file]} for row in rows]
    figure = measure["agreement"]
    return [rows[0] | {"share": 1.0}, *(row | {"share": number(row, "agreement", figure)} for row in rows[1:])]


def _with_found_share(rows: Sequence[Row]) -> list[Row]:
    full = found_of(rows[0])
    if not full:
        return list(rows)
    return [row if (own := found_of(row)) is None else row | {"retrieval_share": own / full} for row in rows]


def measure_label(results: Row) -> str:
    """Name the figure that ``share`` is a share of."""
    measure = results.get("measure") or {}
    if "sts" in measure:
        return spearman(measure["sts"]).label
    neighbours = measure.get("agreement") == "neighbours_at_10"
    return "neighbours in common with the teacher" if neighbours else COSINE.label


def page(results: Row) -> str:
    """Write ``tradeoff.md``: the table, where it comes from, the picture beside it."""
    varied, shown = ("layers kept", "Quality against speed, size as area")
    if is_of_sizes(results):
        varied, shown = "bytes", "Quality against bytes"
    head = f"# {escaped(results.get('name'))}: {varied} against quality and speed"
    return f"{head}\n\n{table(results)}\n\n![{shown}](tradeoff.svg)\n"


def table(results: Row) -> str:
    """Render the results as a Markdown table, a row a system, and below it where the figures come from."""
    files = dict.fromkeys(file for row in systems(results) for file in row.get("sts") or {})
    sized = is_of_sizes(results)
    columns = [
        Column("made for" if sized else "layers kept", _name, words=True),
        *([_PLAN, _BYTES] if sized else []),
        *(quality(spearman(file)) for file in files),
        Column("share of the teacher's", lambda row: percent(row.get("share"), " ")),
        *([RETRIEVAL, _SHARE_FOUND] if found_of(systems(results)[0]) is not None else []),
        AGREEMENT,
        Column("neighbours in common", lambda row: fixed(number(row, "agreement", "neighbours_at_10"), 3)),
        TEXTS,
        RATIO,
        Column("p50 / p99 latency", _latency),
        *([] if sized else [SIZE]),
        Column("training", lambda row: duration(row.get("train_seconds"))),
    ]
    return "\n".join([Table(columns, systems(results)).markdown(), "", *_misses(results), _source(results)])


def _name(row: Row) -> str:
    return system_label(row) + ("" if row.get("gate") in (None, PASSED) else " †")


def _latency(row: Row) -> str:
    p50, p99 = (digits(number(row, "single_stream", f"latency_ms_{p}")) for p in ("p50", "p99"))
    return f"{p50} / {p99} ms"


def _misses(results: Row) -> list[str]:
    """Say which students the gate held back, and where they missed."""
    missed = [row for row in systems(results) if row.get("gate") not in (None, PASSED)]
    lines = [f"† {escaped(row.get('label'))}: not handed out, {escaped(row['gate'])}." for row in missed]
    return [part for line in lines for part in (line, "")]


def _source(results: Row) -> str:
    texts = (results.get("bench") or {}).get("texts") or {}
    on = f"Speed on {count(texts.get('count'))} texts ({escaped(texts.get('source'))})" if texts else ""
    return "; ".join(part for part in (on, source(results)) if part)
