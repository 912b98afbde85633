"""What the rows of results mean: figures that may be missing, systems, stages, and what stands for quality.

What measures has types (``benchmarks.results``, ``benchmarks.speed.figures``). What reports reads the JSON of every
release, in which figures are missing that were measured later: its rows are JSON, and ``number`` asks for what may be
missing.
"""

import math
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
"""A JSON object of results, as any release wrote it."""

STAGES = {
    "teacher": "Teacher",
    "distil": "Distil",
    "pca": "PCA",
    "quantize": "PyTorch int8",
    "fp32": "ONNX fp32",
    "fp16": "ONNX fp16",
    "int8": "ONNX int8",
}
"""How the stages of a run are named on a page; one that is not among them is written large."""
_STS_NAMES = {"en-test": "STS benchmark test"}


def number(row: Any, *path: str) -> float | None:
    """Follow ``path`` through nested mappings; None where it ends at anything but a finite number."""
    for part in path:
        row = row.get(part) if isinstance(row, dict) else None
    real = isinstance(row, int | float) and not isinstance(row, bool)
    return float(row) if real and math.isfinite(row) else None


def systems(results: Row) -> list[Row]:
    """Return the measured systems, the teacher first."""
    return (results.get("bench") or {}).get("systems") or []


def system_label(row: Row) -> str:
    """Return what a system is called on a page; empty where it has no name."""
    return str(row.get("label") or row.get("name") or "")


def size_of(row: Row) -> float:
    """Return bytes on disk; 0 where they are not known."""
    return number(row, "size_bytes") or 0.0


def ratio_of(system: Row) -> tuple[float, float, float]:
    """Return the lowest, the median and the highest round of the throughput against the teacher's."""
    ratio = number(system, "offline", "ratio") or 1.0
    low, high = (number(system, "offline", end) or ratio for end in ("ratio_min", "ratio_max"))
    return low, ratio, high


def stage_name(row: Row) -> str:
    """Name a stage of the story for a reader."""
    stage = str(row.get("stage") or "")
    return STAGES.get(stage, stage.capitalize())


def rate_of(figures: Any, unit: str) -> float | None:
    """Return how many of a ``unit`` (``texts``, ``questions``) a second were done."""
    own = number(figures, f"{unit}_per_second")
    return number(figures, "texts_per_second") if own is None else own


def found_of(row: Row, *place: str) -> float | None:
    """Return the mean nDCG@10 x 100 over the collections that a system or a stage searched, or what lies at ``place``
    beside it: ``on_teachers_index``; None where nothing was searched.
    """
    figures = (row.get("retrieval") or {}).values()
    values = [value for own in figures if (value := number(own, *place, "ndcg_at_10")) is not None]
    return sum(values) / len(values) if values else None


@dataclass(frozen=True)
class Measure:
    """A figure of quality: how it is called, and where a system or a stage has it."""

    name: str
    """In the head of a table."""
    scale: str
    """What is counted, and of how much."""
    path: tuple[str, ...]
    """The keys that lead to it in a row."""
    places: int = 2
    """Decimals."""
    own: float | None = None
    """The teacher's, where it is agreement with the teacher."""

    @property
    def title(self) -> str:
        """Name the figure where a line begins with it."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def label(self) -> str:
        """Name the figure and its unit."""
        return self.scale if self.name == QUALITY else f"{self.name}, {self.scale}"

    def of(self, row: Row) -> float | None:
        """Read the figure off a system or a stage; the teacher agrees with itself."""
        if self.own is not None and "teacher" in (row.get("name"), row.get("stage")):
            return self.own
        return number(row, *self.path)

    def text(self, value: float) -> str:
        """Write a value of the figure: 82.03, or 0.9874."""
        return f"{value:.{self.places}f}"


QUALITY = "quality"
COSINE = Measure(QUALITY, "mean cosine to the teacher", ("agreement", "cosine_mean"), places=4, own=1.0)
F1 = Measure("F1", "0 to 100", ("answers", "f1"))
EXACT = Measure("EM", "exact match, 0 to 100", ("answers", "exact"))


def spearman(file: str) -> Measure:
    """Return the correlation of cosines with the scores of an STS file."""
    return Measure(QUALITY, f"{_STS_NAMES.get(file, f'STS {file}')}, Spearman × 100", ("sts", file))


def similarity(results: Row) -> Measure:
    """Choose what stands for quality of vectors: the first STS file that anything was scored on, else the cosine."""
    rows = [*systems(results), *(results.get("story") or [])]
    files = (file for row in rows for file in row.get("sts") or {} if number(row, "sts", file) is not None)
    first = next(files, None)
    return COSINE if first is None else spearman(first)
