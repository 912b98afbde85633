"""A benchmark's figures as it would have measured them, for what joins, writes and reads them."""

from typing import Any

from benchmarks.results import BenchFigures, MeasuredOn, SystemFigures, Twin
from benchmarks.speed.figures import AtLength, Attempt, Footprint, HighestRate, Offline, Ratio, SingleStream
from benchmarks.speed.limit import OperatorShare, Reached, ReachedAt
from benchmarks.speed.turns import AgainstItself

SERVED = HighestRate(
    80.0,
    50.0,
    [
        Attempt(100.0, 1000, 30.0, 90.0, held=False),
        Attempt(100.0, 1000, None, None, held=False),
        Attempt(80.0, 1000, 11.0, 49.0, held=True),
    ],
)
REACHED = Reached(
    "texts",
    2,
    {"fp32_gflops": 100.0, "int8_gops": 400.0},
    [
        ReachedAt(
            16,
            32,
            5000.0,
            2e7,
            [OperatorShare("QAttention", 3, 30.0, 0.75, 90.0, 0.45), OperatorShare("Add", 7, 10.0, 0.25)],
            gops=100.0,
            of_peak={"int8": 0.25},
        )
    ],
)


def offline(rate: float = 200.0, ratio: float = 4.0) -> Offline:
    """Return figures of two batch sizes and three rounds, the median at ``rate``."""
    rounds = [0.75 * rate, 1.25 * rate, rate]
    return Offline(32, {8: 0.5 * rate, 32: rate}, rate, rounds, Ratio(ratio, 0.75 * ratio, 1.25 * ratio))


def system_figures(name: str = "onnx-int8", stage: str | None = "int8", **other: Any) -> SystemFigures:
    """Return the figures of one system; ``other`` are fields that differ."""
    given: dict[str, Any] = {
        "name": name,
        "label": f"the {name}",
        "provider": "CPUExecutionProvider",
        "stage": stage,
        "size_bytes": 1000,
        "threads": 2,
        "footprint": Footprint(0.5, 0.25, 70_000_000, 2),
        "offline": offline(),
        "single_stream": SingleStream(40, 2.0, 3.0, 4.0, [2.0, 2.5]),
        "server": None,
        "by_length": [AtLength(16, 300.0, Ratio(5.0, 4.5, 5.5), 1.5)],
    }
    return SystemFigures(**given | other)


def benched(*systems: SystemFigures, unit: str = "texts") -> BenchFigures:
    """Return the figures of a benchmark of ``systems``, by default a teacher and an artifact that is served."""
    return BenchFigures(
        unit=unit,
        items=MeasuredOn("sentences", 64, 14.5, 13.0, 37.0),
        rounds=3,
        threads=2,
        twin=Twin("onnx-int8", AgainstItself(1.01, 0.98, 1.02, 0.75), AgainstItself(1.04, 1.02, 1.05, 0.5)),
        limit=REACHED,
        systems=list(systems) or [system_figures("teacher", "teacher"), system_figures(server=SERVED)],
    )
