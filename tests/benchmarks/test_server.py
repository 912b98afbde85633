"""The highest rate is found, and latency counts from when a text was due."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from builders import sentences

from benchmarks.speed import server as module
from benchmarks.speed.figures import Attempt
from benchmarks.speed.server import Latency, Search, arrivals, server
from exporters.serving import Batcher
from exporters.session import OnnxEncoder

TEXTS = sentences(50)


@pytest.fixture(scope="module")
def encoder(artifacts: Callable[..., Path]) -> OnnxEncoder:
    return OnnxEncoder(artifacts() / "fp32", threads=1)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.2)
    monkeypatch.setattr(module, "QUERIES", 50)


@pytest.mark.parametrize("capacity", [37.0, 500.0, 990.0])
def test_the_search_finds_the_highest_rate(capacity: float) -> None:
    search = Search(lambda rate, seed: Latency(1000, 1.0, 5.0 if rate <= capacity else 50.0), bound_ms=10.0)
    found = search.highest(1000.0)
    assert capacity * 0.98 <= found <= capacity
    result = search.result(found)
    assert (result.rate, result.bound_ms) == (found, 10.0)
    assert result.kept == Attempt(found, 1000, 1.0, 5.0, True)
    assert len(result.tried) <= 24


def test_one_run_of_two_has_to_keep_the_bound() -> None:
    search = Search(lambda rate, seed: Latency(1000, 1.0, 50.0 if seed == 0 else 5.0), bound_ms=10.0)
    assert search.highest(100.0) > 97
    assert [run.latency_ms_p99 for run in search.tried[:4]] == [50.0, 5.0, 50.0, 5.0]


def test_no_rate_at_all() -> None:
    search = Search(lambda rate, seed: Latency(1000, 50.0, 50.0), bound_ms=10.0)
    assert search.highest(100.0) == 0
    assert search.result(0.0).kept is None
    assert len(search.tried) < 20


def test_all_texts_come_back(encoder: OnnxEncoder, short: None) -> None:
    with Batcher(encoder) as batcher:
        found = arrivals(batcher, TEXTS, rate=400, seed=0)
    assert found.queries == 80  # 0.2 seconds of them
    assert 0 < found.p50_ms <= found.p99_ms < 60_000


def test_percentiles_are_of_each_text_since_it_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred texts that take 1 to 100 ms, on a clock that only the texts move."""
    now, taken = [0.0], iter(np.random.default_rng(0).permutation(100) + 1)

    class Answer:
        def add_done_callback(self, receive: Callable[[Any], None]) -> None:
            sent, now[0] = now[0], now[0] + float(next(taken)) / 1000
            receive(self)
            now[0] = sent

        def exception(self) -> None:
            return None

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(module, "SECONDS", 0.0)
    monkeypatch.setattr(module, "QUERIES", 100)
    batcher: Any = SimpleNamespace(submit=lambda text: Answer())
    found = arrivals(batcher, TEXTS, rate=100.0, seed=0)
    assert found == (100, pytest.approx(51), pytest.approx(100))


class Late(OnnxEncoder):
    """An encoder that takes at least 20 ms for a batch."""

    def run_ids(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        time.sleep(0.02)
        return super().run_ids(input_ids, attention_mask)


def test_latency_counts_from_when_a_text_was_due(encoder: OnnxEncoder, short: None) -> None:
    """One at a time at 20 ms, 50 texts sent at once: the last waits for all the others."""
    with Batcher(Late(encoder.folder, threads=1), batch_size=1) as batcher:
        found = arrivals(batcher, TEXTS, rate=240, seed=0)
    assert found.queries == 50
    # They are due over about 0.2 s and take a second: the later half waits for more than 0.2 s.
    assert found.p50_ms > 200
    assert found.p99_ms > 600


def test_arrivals_are_the_same_for_a_seed(encoder: OnnxEncoder, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    send = Batcher.submit
    monkeypatch.setattr(Batcher, "submit", lambda self, text: sent.append(text) or send(self, text))  # type: ignore[func-returns-value]
    for seed in (0, 0, 1):
        with Batcher(encoder) as batcher:
            arrivals(batcher, TEXTS, rate=1000, seed=seed)
    assert sent[:200] == sent[200:400] != sent[400:]


def test_what_is_refused_never_comes_back(encoder: OnnxEncoder, short: None) -> None:
    with Batcher(Late(encoder.folder, threads=1), batch_size=1, most_waiting=3) as batcher:
        found = arrivals(batcher, TEXTS, rate=2000, seed=0)
    assert found.p99_ms == np.inf


def test_every_encoder_has_its_rate(encoder: OnnxEncoder, short: None) -> None:
    found = server({"slow": Late(encoder.folder, threads=1)}, TEXTS, bound_ms=150.0, ceilings={"slow": 4000.0})["slow"]
    # 1,600 a second is what 32 texts in 20 ms are; a burst of 0.2 s may be answered for 0.15 s longer.
    assert 0 < found.rate < 3000
    assert found.kept is not None
    assert found.kept.latency_ms_p99 is not None
    assert found.kept.latency_ms_p99 <= 150
