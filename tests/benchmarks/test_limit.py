"""Shares of the peak are what was computed over what could have been."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import sentences
from rich.console import Console

from benchmarks.report.limits import longest, print_limit
from benchmarks.speed import limit as module
from benchmarks.speed.limit import Limit, Reached

PEAKS = {"fp32_gflops": 50.0, "int8_gops": 400.0}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix the machine's peaks and the artifact's rate: 1,000 texts a second in batches of 8, 500 in others."""
    lower = {name: peak / 2 for name, peak in PEAKS.items()}
    peaks = iter([lower, PEAKS])
    monkeypatch.setattr(module, "measure_peaks", lambda seconds, threads: next(peaks))
    monkeypatch.setattr(module, "rate", lambda encoder, texts, size, seconds: 1000.0 if size == 8 else 500.0)


@pytest.fixture
def measured(known: None, artifacts: Callable[..., Path]) -> Reached:
    return Limit(lengths=(8, 16, 256), threads=2).measure(artifacts() / "int8", sentences(64))


def test_shares_are_of_the_higher_peak(measured: Reached) -> None:
    assert measured.peaks == PEAKS
    assert (measured.unit, measured.threads) == ("texts", 2)
    assert [row.tokens for row in measured.by_length] == [8, 16]  # 256 is above the model's 64
    for row in measured.by_length:
        tokens = row.tokens
        # Four layers, 32 wide: see test_profile.
        operations = 2 * 4 * (tokens * 8 * 32 * 32 + 2 * tokens * tokens * 32)
        assert (row.batch_size, row.rate) == (8, 1000.0)
        assert row.operations == operations
        assert row.gops == pytest.approx(operations / 1e6)
        assert row.of_peak == pytest.approx({"int8": operations / 400e6})  # no share of fp32's


def test_a_rate_is_the_median_of_three_turns(
    known: None, artifacts: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter([700.0, 100.0, 600.0])
    monkeypatch.setattr(module, "rate", lambda encoder, texts, size, seconds: next(turns))
    found = Limit(lengths=(8,), batch_sizes=(8,), threads=1).measure(artifacts() / "int8", sentences(64))
    assert [row.rate for row in found.by_length] == [600.0]


def test_operators_are_held_against_a_threads_peak_in_their_precision(measured: Reached) -> None:
    for row in measured.by_length:
        operators = {one.operator: one for one in row.operators}
        assert sum(one.share for one in operators.values()) == pytest.approx(1)
        gops = operators["QAttention"].gops
        assert gops is not None
        assert operators["QAttention"].of_peak == pytest.approx(gops / 200)
        assert operators["LayerNormalization"].of_peak is None
        assert "of_peak" not in operators["LayerNormalization"].as_dict()
        assert operators["LayerNormalization"].nodes == 9


def test_the_float_graph_is_held_against_fp32(known: None, artifacts: Callable[..., Path]) -> None:
    found = Limit(lengths=(8,), threads=1).measure(artifacts() / "fp32", sentences(64))
    [row] = found.by_length
    assert row.of_peak == pytest.approx({"fp32": row.gops / 50})
    products = {one.operator: one for one in row.operators}["MatMul"]
    assert products.gops is not None
    assert products.of_peak == pytest.approx(products.gops / 50)


def test_the_printed_table(measured: Reached) -> None:
    out = io.StringIO()
    print_limit(measured.as_dict(), Console(file=out, width=80))
    printed = out.getvalue().replace("\N{NO-BREAK SPACE}", "")
    lines = {" ".join(line.split()[:-2]): line.split()[-2:] for line in printed.splitlines()}
    rows = measured.by_length
    assert lines["of the int8 peak"] == [f"{row.of_peak['int8']:.1%}" for row in rows]
    assert lines["texts/s"] == ["1,000", "1,000"]
    assert f"time in {longest(measured.as_dict())[0]}" in lines
    assert "peaks on 2 threads, billions of operations a second: fp32 50, int8 400" in out.getvalue()


def test_this_machine_for_real(artifacts: Callable[..., Path]) -> None:
    found = Limit(lengths=(16,), batch_sizes=(8,), threads=1).measure(artifacts() / "int8", sentences(64))
    [row] = found.by_length
    assert 0 < row.of_peak["int8"] < 1
    assert row.gops == pytest.approx(row.operations * row.rate / 1e9)
