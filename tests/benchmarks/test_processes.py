"""One process of many threads beside as many processes: each has its share, all is counted, and a failure is told."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from builders import sentences

from benchmarks.speed import embedding, processes, scale
from compressor.core.errors import CompressorError, RecipeError


def test_both_ways_are_measured_and_one_of_them_twice(
    embeddable: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences(400)))
    given = ["--texts", str(tmp_path / "texts.txt"), "--processes", "2", "--rounds", "1"]
    assert processes.main([str(embeddable), "1001", *given]) == 0
    found = json.loads(capsys.readouterr().out)
    rates = found["texts_per_second"]
    assert set(rates) == {processes.ONE, processes.AGAIN, processes.MANY}
    assert found["gain"]["ratio"] == pytest.approx(rates[processes.MANY] / rates[processes.ONE])
    assert found["noise"]["ratio"] == pytest.approx(rates[processes.AGAIN] / rates[processes.ONE])
    memory = found["peak_memory_bytes"]
    assert memory[processes.MANY] > 1.5 * memory[processes.ONE]  # each process has a model of its own


def test_a_process_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CompressorError, match=r"broken: a process that streams ended with exit status 1$"):
        processes._turn(tmp_path / "broken", ["a"], 10, 2, 1)


def test_what_cannot_be_measured_is_refused(embeddable: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="^processes = 0: "):
        processes.measure(embeddable, None, 10, 0, 1)
    assert processes.main([str(tmp_path), "10"]) == 1


@pytest.mark.parametrize(
    ("main", "words", "line"),
    [
        (processes.main, ("0",), "count = 0"),
        (processes.main, ("10", "--rounds", "0"), "rounds = 0"),
        (scale.main, ("0",), "count = 0"),
        (scale.main, ("10", "--rounds", "0"), "rounds = 0"),
        (scale.main, ("10", "--workers", "1", "-1"), "workers = -1"),
        (embedding.main, ("10", "0"), "counts = 0"),
        (embedding.main, ("10", "--rounds", "0"), "rounds = 0"),
    ],
)
def test_what_counts_nothing_is_one_line(
    embeddable: Path,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    words: Sequence[str],
    line: str,
) -> None:
    assert main([str(embeddable), *words]) == 1
    assert capsys.readouterr().err == f"{line}: must be a whole number from 1\n"


def test_few_texts_have_a_shard(embeddable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()

    def embed(*_: Any, shard_rows: int, **__: Any) -> Any:
        asked.append(shard_rows)
        return SimpleNamespace(computed=10, seconds=1.0)

    monkeypatch.setattr(scale, "connected", lambda _: nullcontext())
    monkeypatch.setattr(scale, "embed", embed)
    scale._timed({"artifact": str(embeddable), "texts": "t", "out": str(tmp_path), "way": "2", "count": 10})
    assert asked == [1]


def test_told_to_end_it_ends_what_it_started(embeddable: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences(400)))
    given = [str(embeddable), "100000000", "--texts", str(tmp_path / "texts.txt"), "--processes", "1", "--rounds", "1"]
    with subprocess.Popen([sys.executable, "-m", "benchmarks.speed.processes", *given]) as process:
        watched, started = psutil.Process(process.pid), list[psutil.Process]()
        while process.poll() is None and not any(child.cpu_times().user > 0.5 for child in started):
            time.sleep(0.05)
            started = watched.children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    assert all(not child.is_running() or child.status() == psutil.STATUS_ZOMBIE for child in started)
