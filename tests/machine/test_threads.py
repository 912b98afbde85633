"""All systems of a benchmark have the threads that it was asked for, whatever the shell says, and say so."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import sentences

from benchmarks import bench as module
from benchmarks.bench import Bench
from benchmarks.speed import throughput
from benchmarks.speed.figures import Footprint
from benchmarks.speed.footprint import as_users, footprint
from benchmarks.systems import System
from compressor.core.cores import usable_cores
from compressor.core.errors import CompressorError
from compressor.machine.describe import HUGE_PAGES
from compressor.machine.threads import same_threads, torch_threads

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
SMALL = Bench(count=64, batch_sizes=(8,), rounds=1, queries=20, lengths=())


@pytest.fixture
def systems(tiny: Path, artifacts: Callable[..., Path]) -> list[System]:
    """Return a teacher that states no threads, and an artifact that states one."""
    graph = str(artifacts() / "fp32")
    return [System("teacher", "t", "torch", str(tiny), "PyTorch CPU"), System("ours", "o", "onnx", graph, threads=1)]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let PyTorch have one thread, as OMP_NUM_THREADS=1 does where it is set before the start."""
    with torch_threads(1):
        yield


@pytest.mark.parametrize("asked", [None, 3])
def test_the_shell_slows_no_system(
    asked: int | None, one_thread: None, systems: list[System], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = asked or usable_cores()
    had: list[tuple[int, int]] = []

    def offline(encoders: Any, *given: Any, **named: Any) -> Any:
        had.append((torch.get_num_threads(), encoders["ours"].threads))
        return real(encoders, *given, **named)

    real = throughput.offline
    monkeypatch.setattr(throughput, "offline", offline)
    monkeypatch.setattr(module, "footprint", lambda system, texts: Footprint(0.1, 0.2, 1, system.threads))
    found = SMALL.model_copy(update={"threads": asked}).measure(systems, sentences(64), "sentences")
    assert had == [(expected, expected)]
    assert found.limit is not None
    assert found.threads == found.limit.threads == expected
    assert [(row.threads, row.footprint.load_threads) for row in found.systems] == [(expected, expected)] * 2
    assert torch.get_num_threads() == 1  # put back


@pytest.mark.parametrize("asked", [None, 3])
def test_a_process_of_its_own_has_them_too(
    asked: int | None, systems: list[System], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in COUNTS:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMP_THREAD_LIMIT", "1")
    teacher = systems[0]
    found = footprint(System(teacher.name, "t", "torch", teacher.folder, "PyTorch CPU", asked), sentences(4))
    assert found.load_threads == (asked or usable_cores())


def test_a_process_has_the_users_other_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("OMP_NUM_THREADS", "7"), ("OMP_PROC_BIND", "true"), (HUGE_PAGES, "1"), ("OTHER", "kept")):
        monkeypatch.setenv(name, value)
    given = as_users(3)
    assert {name: given[name] for name in COUNTS} == dict.fromkeys(COUNTS, "3")
    assert given["OTHER"] == "kept"
    assert not {"OMP_PROC_BIND", HUGE_PAGES} & given.keys()
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize(("name", "value"), [("OMP_THREAD_LIMIT", "1"), ("OMP_PROC_BIND", "true")])
def test_what_holds_one_system_alone_is_refused(
    name: str, value: str, systems: list[System], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CompressorError, match=rf"^{name} = {value}: holds PyTorch's threads and no others; unset it"):
        SMALL.measure(systems, sentences(64), "sentences")


def test_what_holds_nothing_is_no_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_PROC_BIND", "FALSE")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with same_threads(2):
        assert torch.get_num_threads() == 2
