"""This harness is held against LoadGen with the same texts; without LoadGen, one line says how to get it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import sentences
from rich.console import Console

from benchmarks.report.limits import print_loadgen
from benchmarks.speed import loadgen as module
from benchmarks.speed import server
from benchmarks.speed.loadgen import Agreement, Compared, Loadgen
from compressor.core.errors import DependencyError

TEXTS = sentences(300)


def test_without_loadgen_one_line_says_how_to_get_it(
    artifacts: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    message = r"^mlcommons-loadgen: not installed; pip install 'compressor\[loadgen\]'$"
    with pytest.raises(DependencyError, match=message):
        Loadgen().measure(artifacts() / "int8", TEXTS)


@pytest.mark.parametrize(
    ("pairs", "ratio", "agrees"),
    [
        ([(104.0, 100.0), (52.0, 50.0), (90.0, 100.0)], 1.04, True),
        ([(94.0, 100.0)] * 3, 0.94, False),
        ([(130.0, 100.0), (101.0, 100.0), (60.0, 100.0)], 1.01, True),
        ([(0.0, 0.0)], 1.0, True),
        ([(0.0, 100.0)], 0.0, False),
    ],
)
def test_agreement_is_of_the_rounds_ratios(pairs: list[tuple[float, float]], ratio: float, agrees: bool) -> None:
    found = Agreement.of(pairs)
    assert (found.ratio, found.agrees) == (pytest.approx(ratio), agrees)


@pytest.fixture(scope="module")
def found(artifacts: Callable[..., Path]) -> Compared:
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.speed.throughput.TURN_SECONDS", 0.2)
        patch.setattr("benchmarks.speed.throughput.SETTLE_SECONDS", 0.0)
        patch.setattr(server, "SECONDS", 0.3)
        patch.setattr(server, "QUERIES", 64)
        check = Loadgen(rounds=2, queries=64, server_rounds=1, server_p99_ms=1000, threads=1)
        return check.measure(artifacts() / "int8", TEXTS)


@pytest.mark.packages
def test_both_drive_the_same_encoder(found: Compared) -> None:
    figures = {
        "offline": {"texts_per_second"},
        "single_stream": {"latency_ms_p50", "latency_ms_p90"},
        "server": {"rate"},
    }
    for scenario, names in figures.items():
        measured = getattr(found, scenario)
        assert set(measured) == names
        for row in measured.values():
            assert row.low <= row.ratio <= row.high
            assert 1 / 3 < row.ratio < 3, (scenario, row)  # of another unit or meaning it would be far off
    assert len(found.offline["texts_per_second"].rounds) == 2


@pytest.mark.packages
def test_the_printed_table(found: Compared, capsys: pytest.CaptureFixture[str]) -> None:
    print_loadgen(found.as_dict(), Console(width=120))
    text = capsys.readouterr().out
    assert all(name in text for name in ("Offline", "SingleStream", "Server", "nine tenths", "LoadGen"))


@pytest.mark.packages
def test_the_texts_are_the_same(artifacts: Callable[..., Path]) -> None:
    lg = pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
    driver = module._Driver(lg, TEXTS)

    def answer(samples: Any) -> None:
        driver.of(samples)
        driver.complete(samples)

    issued = []
    for _ in range(2):
        driver.run("SingleStream", answer, min_query_count=100, max_query_count=100)
        issued.append(driver.issued)
    assert issued[0] == issued[1]
    assert len(issued[0]) == 100
    assert set(issued[0]) <= set(TEXTS)
    assert len(set(issued[0])) > 20
