"""Memory and load time are of a process that loads this system and nothing else."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import sentences

from benchmarks.speed import footprint as module
from benchmarks.speed.footprint import footprint
from benchmarks.systems import System
from compressor.core.errors import CompressorError

TEXTS = sentences(40)


def test_onnx_needs_less_memory_than_pytorch(artifacts: Callable[..., Path], tiny: Path) -> None:
    graph = footprint(System("onnx", "", "onnx", str(artifacts() / "fp32"), threads=1), TEXTS)
    torch = footprint(System("torch", "", "torch", str(tiny), "PyTorch CPU", threads=1), TEXTS)
    for found in (graph, torch):
        assert found.load_seconds > 0
        assert found.imports_seconds > 0
        assert found.load_threads == 1
    # Interpreter, numpy and ONNX Runtime; PyTorch and transformers come on top.
    assert 30e6 < graph.peak_memory_bytes < 150e6
    assert torch.peak_memory_bytes > graph.peak_memory_bytes + 100e6


def test_the_peak_is_kept_when_memory_is_given_back() -> None:
    code = (
        "from benchmarks.speed.footprint import peak_bytes; before = peak_bytes(); some = bytearray(100_000_000); "
        "some[::4096] = b'x' * len(some[::4096]); del some; print(peak_bytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 90e6


def test_nothing_else_is_loaded_beside_the_system() -> None:
    code = "import sys, benchmarks.speed.footprint, exporters.session; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "onnx", "pydantic", "scipy", "rich"} & set(done.stdout.split())


def test_memory_is_not_the_parents(artifacts: Callable[..., Path]) -> None:
    ballast = bytearray(200_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    found = footprint(System("onnx", "", "onnx", str(artifacts() / "fp32"), threads=1), TEXTS)
    assert found.peak_memory_bytes < 150e6


def test_memory_grows_with_the_model(artifacts: Callable[..., Path]) -> None:
    tiny, wide = (
        footprint(System("onnx", "", "onnx", str(folder / "fp32"), threads=1), TEXTS).peak_memory_bytes
        for folder in (artifacts(), artifacts("wide"))
    )
    assert wide > tiny + 2e6


def test_a_system_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CompressorError) as caught:
        footprint(System("onnx-fp32", "", "onnx", str(tmp_path)), TEXTS)
    message = str(caught.value)
    assert message.startswith("onnx-fp32: cannot be measured in a process of its own: ")
    assert f"{tmp_path}: no readable tokenizer.json" in message
    assert "\n" not in message


def test_a_process_that_is_killed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.sys, "executable", "/bin/false")
    message = r"^a: cannot be measured in a process of its own: exit status 1$"
    with pytest.raises(CompressorError, match=message):
        footprint(System("a", "", "onnx", "nowhere"), TEXTS)


def test_a_folder_of_the_users_is_not_imported(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tokenizers", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert footprint(System("onnx", "", "onnx", str(artifacts() / "fp32"), threads=1), TEXTS).load_seconds > 0
    code = subprocess.run([sys.executable, "-m", "compressor.cli", "--version"], capture_output=True, text=True)
    assert (code.returncode, code.stdout[:11]) == (0, "compressor "), code.stderr
