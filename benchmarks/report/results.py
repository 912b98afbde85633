"""What the rows of results mean: figures that may be missing, systems, stages, and what stands for quality."""

import math
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

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


@dataclass(frozen=True)
class Measure:
    """The one figure that stands for quality in a report."""

    sts: str | None
    """STS file whose Spearman x 100 it is; None for the mean cosine to the teacher."""

    @classmethod
    def choose(cls, results: Row) -> "Measure":
        """Take the first STS file that anything was scored on."""
        rows = [*systems(results), *(results.get("story") or [])]
        files = (f for row in rows for f in row.get("sts") or {} if number(row, "sts", f) is not None)
        return cls(next(files, None))

    @property
    def label(self) -> str:
        """Name the figure and its unit."""
        name = _STS_NAMES.get(self.sts or "", f"STS {self.sts}")
        return f"{name}, Spearman × 100" if self.sts else "mean cosine to the teacher"

    def of(self, row: Row) -> float | None:
        """Read the figure off a system or a stage; the teacher agrees with itself."""
        if self.sts:
            return number(row, "sts", self.sts)
        itself = "teacher" in (row.get("name"), row.get("stage"))
        return 1.0 if itself else number(row, "agreement", "cosine_mean")

    def text(self, value: float) -> str:
        """Write a value of the figure: 82.03, or 0.9874."""
        return f"{value:.2f}" if self.sts else f"{value:.4f}"
