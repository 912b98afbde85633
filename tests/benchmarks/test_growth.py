"""Any number of texts, in the same memory."""

import io
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from builders import sentences
from rich.console import Console

from benchmarks.report.limits import print_growth
from benchmarks.speed import growth as module
from benchmarks.speed.growth import Grown, Growth, Run, repeated
from compressor.core.errors import CompressorError, RecipeError

TEXTS = sentences(500)


def test_texts_are_repeated_in_other_orders() -> None:
    texts = list(repeated(TEXTS, 1750))
    assert len(texts) == 1750
    assert Counter(texts[:500]) == Counter(texts[500:1000]) == Counter(TEXTS)
    assert texts[:500] != texts[500:1000] != TEXTS
    assert texts == list(repeated(TEXTS, 1750))
    assert list(islice(repeated(TEXTS, 1 << 60), 3)) == texts[:3]  # no list is made


def test_the_order_straddles_the_largest() -> None:
    assert Growth(counts=(100_000, 10_000, 1_000_000)).order() == [
        *[10_000] * 3,
        100_000,
        1_000_000,
        100_000,
        *[10_000] * 3,
    ]


def test_one_count_is_no_growth() -> None:
    with pytest.raises(RecipeError, match=r"counts"):
        Growth.read({"counts": [10_000]})


def run(count: int, rate: float, memory: int) -> Run:
    return Run(count, rate, memory, threads=2)


@pytest.mark.parametrize(
    ("rate", "memory", "holds"), [(96.0, 104, True), (94.0, 100, False), (106.0, 100, False), (100.0, 106, False)]
)
def test_what_holds(rate: float, memory: int, holds: bool) -> None:
    found = Grown("texts", [run(1000, 90, 98), run(9000, rate, memory), run(1000, 110, 100)]).as_dict()
    assert found["rows"][0] == {"count": 1000, "runs": 2, "texts_per_second": 100, "peak_memory_bytes": 100}
    assert found["speed_ratio"] == pytest.approx(rate / 100)
    assert found["holds"] is holds


@pytest.mark.parametrize(("rate", "verdict"), [(96.0, "holds"), (94.0, "does not hold")])
def test_the_printed_table(rate: float, verdict: str) -> None:
    out = io.StringIO()
    found = Grown("texts", [run(1000, 100.0, 90_000_000), run(9000, rate, 91_200_000)])
    print_growth(found.as_dict(), Console(file=out, width=80))
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert ["1,000", "100", "90.0", "MB", "1"] in rows
    assert ["9,000", f"{rate:.0f}", "91.2", "MB", "1"] in rows
    line = f"largest to smallest: speed {rate / 100:.3f}, memory 1.013; within 5%: {verdict}"
    assert line in out.getvalue()


def test_a_measurement_goes_on_where_it_was(artifacts: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, asked = artifacts() / "int8", Growth(counts=(1000, 2000), threads=1)
    kept: list[list[Run]] = []
    whole = asked.measure(folder, TEXTS, keep=lambda runs: kept.append(list(runs)))
    assert [one.count for one in whole.runs] == [1000, 2000, 1000]
    assert [len(runs) for runs in kept] == [1, 2, 3]
    assert all(one.rate > 0 and one.peak_memory_bytes > 20e6 and one.threads == 1 for one in whole.runs)
    monkeypatch.setattr(module, "_in_a_process", lambda *_: run(1000, 1.0, 1))
    again = asked.measure(folder, TEXTS, done=kept[1])
    assert again.runs == [*kept[1], run(1000, 1.0, 1)]


def test_the_key_is_of_all_that_matters(artifacts: Callable[..., Path]) -> None:
    folder = artifacts()
    keys = {
        Growth().key(folder / "int8", TEXTS),
        Growth(threads=1).key(folder / "int8", TEXTS),
        Growth().key(folder / "fp32", TEXTS),
        Growth().key(folder / "int8", TEXTS[:-1]),
    }
    assert len(keys) == 4
    assert Growth().key(folder / "int8", TEXTS) in keys


def test_a_run_that_fails_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CompressorError, match=r"nowhere: 1,000 texts could not be streamed: exit status 1$"):
        module._in_a_process(tmp_path / "nowhere", TEXTS, 1000, 32, 1)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_memory_does_not_grow(artifacts: Callable[..., Path]) -> None:
    found = Growth(counts=(20_000, 200_000), threads=2).measure(artifacts() / "int8", TEXTS)
    assert found.as_dict()["memory_ratio"] < 1.05, found
