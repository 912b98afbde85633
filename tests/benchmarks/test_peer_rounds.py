"""Peers take turns: each at its best setting, one that fails is out, and the teacher's failure ends the run."""

from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.peers import rounds
from benchmarks.peers.entry import Entry
from benchmarks.peers.results import Loaded, Setting
from compressor.core.errors import PeerError


class Known:
    """A worker whose speed in each setting is known; ``dies`` at a call."""

    def __init__(self, calls: list[str], name: str, rates: dict[Any, float], dies: int = -1) -> None:
        self.calls, self.name, self.rates, self.dies, self.setting = calls, name, rates, dies, None

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        if do == "use":
            self.setting = request["setting"].get("streams")
            return {}
        return {"milliseconds": [2.0] * len(request["texts"])}

    def seconds(self, texts: Sequence[str], batch_size: int) -> float:
        self.dies -= 1
        if self.dies == 0:
            raise PeerError("died")
        self.calls += [f"{self.name}{self.setting or ''}"] if len(texts) == 500 else []
        return len(texts) / self.rates[self.setting, batch_size]

    def cpu_seconds(self) -> float:
        return 0.0

    def close(self) -> None:
        self.calls.append(f"{self.name} closed")


def loaded(settings: Sequence[Setting]) -> Loaded:
    return Loaded(0.5, 4, 64, settings, size_bytes=1000, threads=1, versions={"python": "3.11"})


def known(calls: list[str], name: str, rates: dict[Any, float], kind: str = "peer", dies: int = -1) -> Entry:
    settings = [{"streams": n} if n else {} for n in dict.fromkeys(streams for streams, _ in rates)]
    worker: Any = Known(calls, name, rates, dies)
    return Entry(name, name, kind, worker, loaded(settings))


MANY = [f"text {i}" for i in range(500)]


def test_each_is_measured_at_its_best_setting_in_turns() -> None:
    calls: list[str] = []
    slow = known(calls, "t", {(None, 8): 100.0, (None, 32): 50.0}, "teacher")
    fast = known(calls, "p", {(1, 8): 300.0, (1, 32): 200.0, (2, 8): 350.0, (2, 32): 400.0})
    found = rounds.offline([slow, fast], MANY, (8, 32), 3)
    assert calls == ["t", "p2", "p2", "t", "t", "p2"]  # balanced: each comes behind the other
    assert (found["t"].offline.batch_size, found["t"].setting) == (8, {})
    assert (found["p"].offline.batch_size, found["p"].setting) == (32, {"streams": 2})
    assert found["p"].offline.by_batch_size == pytest.approx({8: 350, 32: 400})
    ratio = found["p"].offline.ratio
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((4, 4, 4))
    assert rounds.single_stream([slow, fast], MANY, 30)["p"].latency_ms_p50 == 2
    worker: Any = fast.worker
    assert worker.setting == 1  # all cores for the one text


@pytest.mark.parametrize("dies", [1, 3, 12])
def test_a_peer_that_dies_on_the_way_is_out_and_the_others_go_on(dies: int) -> None:
    calls: list[str] = []
    entries = [
        known(calls, "t", {(None, 8): 100.0}, "teacher"),
        known(calls, "p", {(None, 8): 300.0}, dies=dies),
        known(calls, "q", {(None, 8): 200.0}),
    ]
    found = rounds.offline(entries, MANY, (8,), 6)
    assert list(found) == ["t", "q"]
    assert [entry.reason for entry in entries] == [None, "died", None]
    assert calls.count("q") == 6
    assert calls.count("p closed") == 1


def test_a_teacher_that_dies_ends_the_run() -> None:
    with pytest.raises(PeerError, match=r"^t: died$"):
        rounds.offline([known([], "t", {(None, 8): 100.0}, "teacher", dies=3)], MANY, (8,), 2)


class Uneven(Known):
    """A worker whose turns last, of all its calls in one row, so many seconds."""

    def __init__(self, lasting: Sequence[float]) -> None:
        super().__init__([], "p", {})
        self.lasting = list(lasting)

    def seconds(self, texts: Sequence[str], batch_size: int) -> float:
        return self.lasting.pop(0)


def test_a_turns_rate_is_of_all_its_passes() -> None:
    worker: Any = Uneven([9.0, 1.0, 2.0, 3.0])  # to wake it, and three passes
    entry = Entry("p", "p", "peer", worker, loaded([{}]))
    assert rounds._rate(entry, MANY, 8, 5.0) == 3 * len(MANY) / (1.0 + 2.0 + 3.0)


def test_a_batch_size_is_tried_twice_and_the_better_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds.throughput, "TURN_SECONDS", 0.0)
    worker: Any = Uneven([9.0, 9.0, 2.0, 9.0, 1.0])  # the warm-up; to wake it and a pass, twice
    entry = Entry("p", "p", "peer", worker, loaded([{}]))
    _, best = rounds._best(entry, MANY, (8,), lambda count: None)
    assert best.by_batch_size == {8: len(MANY) / 1.0}
