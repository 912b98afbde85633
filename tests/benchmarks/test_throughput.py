"""Speeds are those of encoders whose speed is known, on a clock that only they move."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.speed import throughput
from benchmarks.speed.figures import AtLength, Ratio, SingleStream
from benchmarks.speed.throughput import Rates, by_length, offline, rate, single_stream
from compressor.core.encoder import Vectors


class Clock:
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[str, int, int]] = []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: clock.now, sleep=lambda _: None))
    return clock


class Known:
    """An encoder that takes ``seconds(texts, batch_size)`` and notes its calls."""

    dim, max_length = 4, 64

    def __init__(self, clock: Clock, name: str, seconds: Callable[[int, int], float]) -> None:
        self.clock, self.name, self.seconds = clock, name, seconds

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        self.clock.calls.append((self.name, len(texts), batch_size))
        self.clock.now += self.seconds(len(texts), batch_size)
        return np.zeros((len(texts), 4), np.float32)


TEXTS = [f"text {i}" for i in range(500)]


def ends(ratio: Ratio) -> tuple[float, float, float]:
    return ratio.median, ratio.low, ratio.high


def test_rate_is_texts_a_second(clock: Clock) -> None:
    assert rate(Known(clock, "a", lambda n, b: n / 250), TEXTS, 8) == pytest.approx(250)


def test_offline_takes_the_best_batch_size_and_the_ratio(clock: Clock) -> None:
    speeds = {"teacher": {8: 100.0, 32: 200.0, 128: 150.0}, "student": {8: 900.0, 32: 700.0, 128: 800.0}}
    encoders = {name: Known(clock, name, lambda n, b, of=of: n / of[b]) for name, of in speeds.items()}  # type: ignore[misc]
    found = offline(encoders, TEXTS, (8, 32, 128), rounds=3)
    teacher, student = found["teacher"], found["student"]
    assert (teacher.batch_size, student.batch_size) == (32, 8)
    assert teacher.by_batch_size == pytest.approx({8: 100, 32: 200, 128: 150})
    assert student.by_batch_size == pytest.approx({8: 900, 32: 700, 128: 800})
    assert (teacher.rate, student.rate) == pytest.approx((200, 900))
    assert student.rounds == pytest.approx([900, 900, 900])
    assert ends(student.ratio) == pytest.approx((4.5, 4.5, 4.5))
    assert teacher.ratio == Ratio(1, 1, 1)


def test_ratios_are_taken_round_by_round(clock: Clock) -> None:
    # The machine slows to a half, then a quarter, in the middle of it: the ratios must not notice.
    slower = {"teacher": iter([1.0, 2.0, 4.0]), "student": iter([1.0, 2.0, 5.0])}

    def seconds(name: str, speed: float) -> Callable[[int, int], float]:
        return lambda n, b: n / speed * (next(slower[name]) if n == len(TEXTS) else 1)

    found = offline(
        {n: Known(clock, n, seconds(n, s)) for n, s in (("teacher", 100), ("student", 500))}, TEXTS, (8,), 3
    )
    assert found["teacher"].rounds == pytest.approx([100, 50, 25])
    assert found["student"].rounds == pytest.approx([500, 250, 100])
    assert ends(found["student"].ratio) == pytest.approx((5, 4, 5))
    assert found["student"].rate == pytest.approx(250)


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    own, base = Rates({8: 1.0}, [10.0, 90.0, 80.0]), Rates({8: 1.0}, [10.0, 20.0, 40.0])
    found = own.against(base)
    # Of medians it would be 4, of the best rounds 2.25, the mean 2.5.
    assert found.ratio == Ratio(2, 1, 4.5)
    assert found.rate == 80


def test_systems_take_turns_within_a_round(clock: Clock) -> None:
    encoders = {name: Known(clock, name, lambda n, b: n / 100) for name in "abc"}
    offline(encoders, TEXTS, (8, 32), rounds=2)
    rounds = [(name, size) for name, n, size in clock.calls if n == len(TEXTS)]
    assert rounds == [("a", 8), ("b", 8), ("c", 8), ("b", 8), ("c", 8), ("a", 8)]
    trials = [(name, n, size) for name, n, size in clock.calls if name == "b" and n != len(TEXTS)]
    # A warm-up, then the sizes up and down on the same part of the texts, and a batch before each pass to wake threads.
    small, large = [("b", 8, 8), ("b", 256, 8)], [("b", 32, 32), ("b", 256, 32)]
    assert trials == [("b", 32, 8), *small, *large * 2, *small, *small[:1] * 2]


def test_a_turn_is_as_many_passes_as_fill_its_time(clock: Clock) -> None:
    encoder = Known(clock, "a", lambda n, b: n / 2000)  # a pass takes a quarter of a second
    assert rate(encoder, TEXTS, 8, seconds=0.9) == pytest.approx(2000)
    assert [n for _, n, _ in clock.calls] == [8, 500, 500, 500, 500]


def test_a_hiccup_counts_no_more_than_its_share_of_a_turn(clock: Clock) -> None:
    lasting = iter([0.0, 0.25, 0.5, 0.25, 0.25])  # the wake-up, then a pass that takes twice as long
    assert rate(Known(clock, "a", lambda n, b: next(lasting)), TEXTS, 8, seconds=1.25) == pytest.approx(1600)


def test_warm_up_is_not_counted(clock: Clock) -> None:
    first = iter([1000.0])
    found = offline({"a": Known(clock, "a", lambda n, b: next(first, n / 100))}, TEXTS, (8,), 1)
    assert found["a"].by_batch_size[8] == pytest.approx(100)


def test_single_stream_tells_the_percentiles(clock: Clock) -> None:
    # In each turn of 23 queries, three of warm-up: 18 of 2 ms, one of 5 ms, one of 30 ms.
    turn = [*[0.5] * 3, *[0.002] * 18, 0.005, 0.030]
    latencies = iter(turn * 10)
    found = single_stream({"a": Known(clock, "a", lambda n, b: next(latencies))}, TEXTS, 200)["a"]
    values = [2.0] * 180 + [5.0] * 10 + [30.0] * 10
    assert found.queries == 200
    assert found.latency_ms_p50 == pytest.approx(2)
    assert found.latency_ms_p90 == pytest.approx(np.percentile(values, 90))
    assert found.latency_ms_p99 == pytest.approx(30)
    assert found.turns_ms_p50 == pytest.approx([2] * 10)
    assert {(n, size) for _, n, size in clock.calls} == {(1, 1)}


def test_percentiles_are_of_all_queries_and_medians_of_turns() -> None:
    turns = [[float(ms) for ms in range(1, 101)], [float(ms) for ms in range(101, 202)]]
    found = SingleStream.of(turns)
    assert (found.latency_ms_p50, found.latency_ms_p90, found.latency_ms_p99) == pytest.approx((101, 181, 199))
    assert found.turns_ms_p50 == [50.5, 151]


def test_single_stream_takes_turns_of_twenty(clock: Clock) -> None:
    encoders = {name: Known(clock, name, lambda n, b: 0.001) for name in "ab"}
    found = single_stream(encoders, TEXTS[:7], 50)
    assert "".join(name for name, *_ in clock.calls) == "a" * 23 + "b" * 23 + "b" * 23 + "a" * 23 + "a" * 13 + "b" * 13
    assert (found["a"].queries, found["b"].queries) == (50, 50)


def test_a_sleeping_encoder_is_seen_by_the_real_clock() -> None:
    from time import sleep

    encoder: Any = SimpleNamespace(encode=lambda texts, batch_size: sleep(0.004))
    found = single_stream({"a": encoder}, TEXTS, 20)["a"]
    assert 4 <= found.latency_ms_p50 < 8


def test_by_length_gives_rate_latency_and_ratio(clock: Clock) -> None:
    encoders = {
        "teacher": Known(clock, "teacher", lambda n, b: n / 100),
        "student": Known(clock, "student", lambda n, b: n / 400),
    }
    found = by_length(encoders, {16: TEXTS[:32], 64: TEXTS[32:64]})
    assert [row.tokens for row in found["student"]] == [16, 64]
    for row in found["student"]:
        assert (row.rate, *ends(row.ratio), row.latency_ms_p50) == pytest.approx((400, 4, 4, 4, 2.5))
        assert isinstance(row, AtLength)
    assert found["teacher"][0].ratio.median == 1
    assert by_length(encoders, {}) == {"teacher": [], "student": []}
