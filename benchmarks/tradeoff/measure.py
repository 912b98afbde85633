"""The trade-off of depth: every student measured in one run with the teacher, and the table of it.

The results have the shape of a run's (``bench.systems``, the teacher first); a system has, besides, ``layers``,
``kept``, ``precision``, ``share``, ``train_seconds``, ``gate`` and ``artifact``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import Bench
from benchmarks.quality.sts import Sts
from benchmarks.report.charts import Measure, Row, number, systems
from benchmarks.report.markdown import escaped, source
from benchmarks.report.page import count, digits, duration, fixed, megabytes, ratio_range
from benchmarks.systems import System
from compressor.artifact.cases import Precision
from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.progress import track
from compressor.models.agreement import Heldout, check_vectors
from compressor.models.projection import Projection

FORMAT = "compressor-tradeoff/1"
PASSED = "passed"


@dataclass(frozen=True)
class Candidate:
    """A system to measure; ``projection`` leads from the teacher's space to its own, where it is reduced."""

    system: System
    projection: Projection | None = None


class SideBySide(Config):
    """Measure quality and speed of all students' artifacts beside the teacher."""

    bench: Bench
    """Settings of the measurements; speed by length is left out."""

    def decided_here(self) -> list[str]:
        return self.bench.decided_here()

    def run(
        self,
        candidates: Sequence[Candidate],
        heldout: Heldout,
        sts: Sequence[Sts],
        texts: tuple[str, list[str]],
        draft: Draft,
    ) -> None:
        """Write ``bench.json`` into ``draft``; the first candidate is the teacher, ``texts`` are source and texts."""
        source, speed_texts = texts
        judged = {candidate.system.name: _quality(candidate, heldout, sts) for candidate in _shown(candidates)}
        measured = self.bench.measure([candidate.system for candidate in candidates], speed_texts, source)
        rows = [row | judged[row["name"]] for row in measured["systems"]]
        write_json(draft.folder / "bench.json", measured | {"systems": rows})


def _shown(candidates: Sequence[Candidate]) -> Any:
    with track("quality", len(candidates), "systems") as advance:
        for candidate in candidates:
            yield candidate
            advance(1)


def _quality(candidate: Candidate, heldout: Heldout, sts: Sequence[Sts]) -> dict[str, Any]:
    encoder = candidate.system.open()
    vectors = encoder.encode(heldout.texts, 32)
    check_vectors(vectors, candidate.system.name)
    return {
        "dim": encoder.dim,
        "agreement": heldout.agreement(vectors, candidate.projection),
        "sts": {file.name: file.spearman(encoder, whose=candidate.system.name) for file in sts},
    }


def name_of(layers: int, precision: Precision) -> str:
    """Name a student's artifact and its folder."""
    return f"{layers}-layers-{precision}"


def label_of(layers: int, precision: Precision | None = None) -> str:
    """Name a student for a reader."""
    depth = {0: "no layers (static)", 1: "1 layer"}.get(layers, f"{layers} layers")
    return f"{depth}, ONNX {precision}" if precision else depth


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
    """Return the rows, each with its ``share`` of the teacher's quality: of its Spearman, or the agreement itself."""
    if "sts" in measure:
        file = measure["sts"]
        return [row | {"share": row["sts"][file] / rows[0]["sts"][file]} for row in rows]
    figure = measure["agreement"]
    return [rows[0] | {"share": 1.0}, *(row | {"share": number(row, "agreement", figure)} for row in rows[1:])]


def measure_label(results: Row) -> str:
    """Name the figure that ``share`` is a share of."""
    measure = results.get("measure") or {}
    if "sts" in measure:
        return Measure(measure["sts"]).label
    return "neighbours in common with the teacher" if measure.get("agreement") == "neighbours_at_10" else (
        Measure(None).label
    )  # fmt: skip


def page(results: Row) -> str:
    """Write ``tradeoff.md``: the table, where it comes from, the picture beside it."""
    return f"# {escaped(results.get('name'))}: layers kept against quality and speed\n\n{table(results)}\n\n" + (
        "![Quality against speed, size as area](tradeoff.svg)\n"
    )


def table(results: Row) -> str:
    """Render the results as a Markdown table, a row a system, and below it where the figures come from."""
    columns = _columns(results)
    lines = ["| " + " | ".join(map(escaped, columns)) + " |", "|---|" + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(write(row) for write in columns.values()) + " |" for row in systems(results)]
    return "\n".join([*lines, "", *_misses(results), _source(results)])


def _columns(results: Row) -> dict[str, Callable[[Row], str]]:
    """Return each column's heading, and what writes its cell."""
    files = dict.fromkeys(file for row in systems(results) for file in row.get("sts") or {})
    scores = {Measure(file).label: _score(file) for file in files}
    return {
        "layers kept": _named,
        **scores,
        "share of the teacher's": lambda row: f"{fixed(_percent(row), 1)} %",
        "cosine to the teacher": lambda row: fixed(number(row, "agreement", "cosine_mean"), 4),
        "neighbours in common": lambda row: fixed(number(row, "agreement", "neighbours_at_10"), 3),
        "texts/s": lambda row: count(number(row, "offline", "texts_per_second")),
        "speed vs teacher": lambda row: ratio_range(row.get("offline")),
        "p50 / p99 latency": _latency,
        "size": lambda row: f"{megabytes(row.get('size_bytes'))} MB",
        "training": lambda row: duration(row.get("train_seconds")),
    }


def _named(row: Row) -> str:
    missed = row.get("gate") not in (None, PASSED)
    return escaped(row.get("label")) + (" †" if missed else "")


def _score(file: str) -> Callable[[Row], str]:
    return lambda row: fixed(number(row, "sts", file), 2)


def _percent(row: Row) -> float | None:
    share = number(row, "share")
    return None if share is None else 100 * share


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
