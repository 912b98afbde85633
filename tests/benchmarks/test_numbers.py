"""Figures are written as a reader expects them, and one that is not there is a dash."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.report import numbers
from benchmarks.report.numbers import MISSING

NBSP = "\N{NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "text"), [(0.3124, "0.312"), (7.914, "7.91"), (90.9, "90.9"), (1234.5, "1,234"), (0, "0.00")]
)
def test_figures_keep_three_digits(value: float, text: str) -> None:
    assert numbers.significant(value) == numbers.digits(value) == text


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (numbers.megabytes, 18_130_843, "18.1"),
        (numbers.size, 18_130_843, "18.1 MB"),
        (numbers.millions, 22_566_000, "22.6"),
        (numbers.count, 374_000.4, "374,000"),
        (numbers.duration, 119.9, "120 s"),
        (numbers.duration, 731, "12.2 min"),
        (numbers.percent, 0.4781, f"47.8{NBSP}%"),
        (numbers.plain, 3.1e-7, "3.1e-07"),
        (numbers.ratio_range, {"ratio": 8.13, "ratio_min": 7.95, "ratio_max": 8.31}, "8.13× [7.95–8.31]"),
        (numbers.ratio_range, {"ratio": 1.0, "ratio_min": 1.0, "ratio_max": 1.0}, "1.00×"),
    ],
)
def test_how_figures_are_written(write: Callable[[Any], str], value: Any, text: str) -> None:
    assert write(value) == text


@pytest.mark.parametrize("value", [None, "3", True, float("nan"), float("inf")])
def test_what_is_no_figure_is_a_dash(value: Any) -> None:
    written = (numbers.digits, numbers.megabytes, numbers.size, numbers.millions, numbers.count, numbers.duration,
               numbers.percent, numbers.plain, numbers.ratio_range, numbers.itself)  # fmt: skip
    assert {write(value) for write in written} == {numbers.fixed(value, 2)} == {MISSING}
    assert numbers.with_unit(numbers.digits(value), "ms") == MISSING


@pytest.mark.parametrize(
    ("factor", "words"),
    [(8.13, "8.1× faster"), (0.5, "2.0× slower"), (250.0, "250× faster"), (None, ""), (0.0, ""), (-1.0, "")],
)
def test_a_factor_in_words(factor: float | None, words: str) -> None:
    assert numbers.gain(factor, "faster", "slower") == words
