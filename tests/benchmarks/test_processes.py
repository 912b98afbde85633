"""One process of many threads beside as many processes: each has its share, all is counted, and a failure is told."""

import json
from pathlib import Path

import pytest
from builders import sentences

from benchmarks.speed import processes
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
