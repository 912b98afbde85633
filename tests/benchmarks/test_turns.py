"""Orders favour nobody, and intervals hold what they say they hold."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from benchmarks.speed.turns import AgainstItself, interval, orders


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7])
def test_each_is_as_often_at_each_place_and_behind_each_other(count: int) -> None:
    rounds = count if count % 2 == 0 else 2 * count
    rows = list(orders(range(count), rounds))
    assert len(rows) == rounds
    assert all(sorted(row) == list(range(count)) for row in rows)
    places = Counter((place, one) for row in rows for place, one in enumerate(row))
    assert set(places.values()) == {rounds // count}
    followers = Counter(pair for row in rows for pair in pairwise(row))
    assert len(followers) == count * (count - 1)
    assert len(set(followers.values())) <= 1


def test_the_first_round_begins_with_the_first() -> None:
    assert next(orders("abcd", 1)) == ["a", "b", "d", "c"]


@pytest.mark.parametrize(
    ("count", "ends", "confidence"),
    [
        (1, (0, 0), 0.0),
        (2, (0, 1), 0.5),
        (5, (0, 4), 0.9375),
        (6, (0, 5), 0.96875),
        (8, (0, 7), 0.9921875),
        (9, (1, 7), 0.9609375),  # the table of the sign test
        (20, (5, 14), 0.9586105),
    ],
)
def test_the_interval_is_that_of_the_sign_test(count: int, ends: tuple[int, int], confidence: float) -> None:
    values = list(np.random.default_rng(0).permutation(count).astype(float))
    assert interval(values) == (*map(float, ends), pytest.approx(confidence))


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    for count in (6, 9, 20):
        draws = random.exponential(size=(4000, count))  # skewed, as times are
        found = [interval(list(row)) for row in draws]
        held = np.mean([low <= np.log(2) <= high for low, high, _ in found])
        assert held == pytest.approx(found[0].confidence, abs=0.012)


def test_a_system_against_itself() -> None:
    same = AgainstItself.of([100, 200, 50, 100, 100, 100], [101, 198, 51, 99, 100, 100])
    assert same.ratio == pytest.approx(1)
    assert (same.low, same.high) == pytest.approx((0.99, 1.02))
    assert same.confidence == 0.96875
    assert same.holds
    faster = AgainstItself.of([100] * 6, [103, 104, 102, 103, 105, 103])
    assert faster.ratio == pytest.approx(1.03)
    assert not faster.holds
