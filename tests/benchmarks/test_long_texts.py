"""Time and memory of one text by its length: each in a process of its own, beside the teacher."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders import sentences
from commands import Command, refusal
from rich.console import Console

from benchmarks.report.limits import print_lengths
from benchmarks.speed import lengths as module
from benchmarks.speed.figures import Ratio
from benchmarks.speed.lengths import ByLength, Lengths, Row, Run
from benchmarks.systems import System
from compressor.core.errors import RecipeError
from exporters.runtime.providers import CPU


@pytest.fixture
def system(artifacts: Callable[..., Path]) -> System:
    return System("own", "own", "onnx", str(artifacts() / "fp32"), CPU)


@pytest.mark.slow
def test_the_command(
    command: Command, texts: Path, tiny: Path, artifacts: Callable[..., Path], tmp_path: Path
) -> None:  # fmt: skip
    words = ("lengths", artifacts() / "int8", "--teacher", tiny, "--texts", texts, "--rounds", "1", "--threads", "1")
    status, out, _ = command(*words, "--lengths", "16,8", "--out", tmp_path / "new" / "lengths.json", "--json")
    assert status == 0
    results = json.loads(out)
    assert results == json.loads((tmp_path / "new" / "lengths.json").read_text())
    assert results["command"].startswith("compressor lengths")
    found = results["lengths"]
    assert (found["unit"], found["threads"]) == ("texts", 1)
    assert [row["tokens"] for row in found["rows"]] == [8, 8, 16, 16]
    assert [row["label"].startswith("teacher") for row in found["rows"]] == [True, False] * 2
    assert [row["ratio"] for row in found["rows"][::2]] == [1.0, 1.0]
    for row in found["rows"]:
        assert row["ms"] > 0
        assert 2**30 > row["peak_memory_bytes"] > 2**25
    assert found["rows"][1]["peak_memory_bytes"] < found["rows"][0]["peak_memory_bytes"], "no PyTorch in its process"
    line = refusal(command(*words, "--lengths", "16,4000"))
    assert line.startswith("error: lengths = [16, 4000]: 4000 is above ")


def test_systems_take_turns_on_texts_of_their_lengths(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(own: System, item: str, threads: int) -> Run:
        asked.append((own.name, len(item.split()), threads))
        return Run(0.002 if own.name == "own" else 0.004, 10**6)

    monkeypatch.setattr(module, "_in_a_process", run)
    systems = [replace(system, name="base", label="base"), system]
    found = Lengths(lengths=(12, 9, 12), rounds=2, threads=1).measure(systems, sentences(50), 32)
    assert [name for name, *_ in asked] == ["base", "own"] * 4
    assert len({words for _, words, _ in asked[:4]}) == 1
    assert asked[0][1] < asked[-1][1]
    assert [row.tokens for row in found.rows] == [9, 9, 12, 12]
    assert [row.ratio for row in found.rows] == [Ratio(1, 1, 1), Ratio(2, 2, 2)] * 2
    with pytest.raises(RecipeError, match=r"lengths = \[64\]: 64 is above 32, what all systems read"):
        Lengths(lengths=(64,)).measure(systems, sentences(50), 32)


def test_a_length_that_is_not_reached_is_said(system: System, tmp_path: Path) -> None:
    gone = replace(system, folder=str(tmp_path / "gone"))
    run = module._in_a_process(gone, "cat", 1)
    assert "gone" in run.failed
    row = Row.of("own", 8192, [run], [Run(1.0, 10)])
    assert row.as_dict() == {"label": "own", "tokens": 8192, "failed": run.failed}
    rows = [Row.of("base", 8192, [Run(1.0, 10)], [Run(1.0, 10)]), row]
    printed = io.StringIO()
    print_lengths(ByLength("texts", 1, rows).as_dict(), Console(file=printed, width=200))
    assert "1,000 " in printed.getvalue()
    assert f"own, 8,192 tokens: {run.failed}" in printed.getvalue()


def test_a_process_that_is_killed_says_so(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    run = module.subprocess.run
    monkeypatch.setattr(module.subprocess, "run", lambda words, **options: run([words[0], "-c", code], **options))
    assert module._in_a_process(system, "cat", 1).failed == "killed, as when memory is not enough"
