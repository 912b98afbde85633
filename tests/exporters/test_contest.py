"""Forms are timed in turns against the best so far, and what is faster beyond its spread is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import sentences

from exporters.runtime.running import Running
from exporters.search import trials as module
from exporters.search.contest import Ratio, contest, whole_pass
from exporters.search.embedding import Search
from exporters.search.forms import Form
from exporters.session import OnnxEncoder

HELDOUT = sentences(100, seed=2)


def test_a_pass_lasts_long_enough_to_be_told_from_its_start(
    artifacts: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporters.search.contest._LEAST_SECONDS", 0.2)
    encode, counts = OnnxEncoder(artifacts() / "fp32", threads=1).encode, []
    run = whole_pass(lambda texts: (counts.append(len(texts)), encode(texts, 32)), HELDOUT)
    first, second = run(), run()
    assert counts[0] == len(HELDOUT) < counts[1]
    assert counts[1] % len(HELDOUT) == 0
    assert second < 0.2 < 3 * second * counts[1] / len(HELDOUT)  # of the texts as they were given
    assert first < 0.2


def test_a_contest_times_in_turns() -> None:
    order: list[str] = []

    def run(name: str, seconds: float) -> Callable[[], float]:
        return lambda: (order.append(name), seconds)[1]

    found = contest(run("base", 1.0), {"fast": run("fast", 0.5), "slow": run("slow", 2.0)}, turns=5)
    assert found["fast"] == Ratio(2.0, 2.0, 2.0, 5)
    assert found["slow"] == Ratio(0.5, 0.5, 0.5, 2)  # surely slower: no need to know by how much
    assert order[3:] == ["base", "fast", "slow"] * 2 + ["base", "fast"] * 3


def test_a_spread_is_that_of_the_middle_half() -> None:
    seconds = iter([1.0, 1.0, 2.0, 3.0, 4.0, 9.0])  # one to wake up, then turns against a base of 12 s
    [found] = contest(lambda: 12.0, {"a": lambda: next(seconds)}, 5).values()
    assert found == Ratio(4.0, 3.0, 6.0, 5)


@pytest.mark.parametrize(
    ("ratio", "kept"),
    [
        (Ratio(1.2, 0.99, 1.3, 9), False),  # faster in the middle, and not surely
        (Ratio(1.2, 1.01, 1.3, 9), True),
        (Ratio(1.002, 1.001, 1.3, 9), False),  # surely, and by nothing
    ],
)
def test_what_is_faster_within_its_spread_alone_is_not_kept(
    ratio: Ratio, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Trials, "_figures", lambda self, form, running=None: {"cosine_mean": 0.99})
    monkeypatch.setattr(
        module._Trials, "_timed", lambda self, name, base, rivals, whole=False: dict.fromkeys(rivals, ratio)
    )
    trials: Any = module._Trials(Search(), None, None, Path())  # type: ignore[arg-type]
    best, rival = Form(), Form(gelu="tanh")
    assert trials._better(best, {"rival": rival}, {"rival": ratio}) == (rival if kept else best)
    assert trials._try_running("arena", (False,), best, Running()).arena is not kept


def test_the_fastest_of_the_surely_faster_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    trials: Any = module._Trials(Search(), None, None, Path())  # type: ignore[arg-type]
    ratios = {"a": Ratio(1.3, 1.1, 1.4, 9), "b": Ratio(1.2, 1.15, 1.9, 9), "c": Ratio(1.8, 0.9, 2.0, 9)}
    rivals = {name: Form(smooth=smooth) for name, smooth in zip("abc", ("none", "all", "normalizations"), strict=True)}
    assert trials._better(Form(gelu="tanh"), rivals, ratios) == rivals["a"]


def test_a_form_that_is_closer_is_kept_where_it_may_be_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    best, closer = Form(), Form(gelu="tanh")
    monkeypatch.setattr(
        module._Trials, "_figures", lambda self, form, running=None: {"cosine_mean": 0.995 if form == closer else 0.99}
    )
    trials: Any = module._Trials(Search(), None, None, Path())  # type: ignore[arg-type]
    for high, kept in ((1.01, closer), (0.99, best)):
        assert trials._better(best, {"closer": closer}, {"closer": Ratio(0.98, 0.97, high, 9)}) == kept
