"""Two exports of one checkpoint, in other processes and other folders, are the same bytes, manifest and all."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import sentences

from compressor.artifact.folder import sha256

ROOT = Path(__file__).parents[2]
BOTH = """
import sys
from compressor.cli.app import app
for words in (["export", sys.argv[1], "--out", "fp32"], ["quantize", "fp32", "--out", "int8", "--texts", "texts.txt"]):
    app(words, standalone_mode=False)
"""


def exported(model: Path, home: Path, seed: str) -> dict[str, str]:
    """Export and quantize in a process whose hashes are seeded by ``seed``; return the hash of every file."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": seed}
    subprocess.run([sys.executable, "-c", BOTH, model], cwd=home, env=environment, check=True, capture_output=True)
    files = sorted(path for path in home.rglob("*") if path.is_file())
    return {path.relative_to(home).as_posix(): sha256(path) for path in files}


@pytest.mark.parametrize("pooling", ["mean", pytest.param("cls", marks=pytest.mark.slow)])
def test_two_exports_are_the_same_bytes(make_model: Callable[..., Path], tmp_path: Path, pooling: str) -> None:
    model = make_model(dense=16, layers=1, pooling=pooling)
    homes = [tmp_path / "a", tmp_path / "b" / "deeper"]
    for home in homes:
        home.mkdir(parents=True)
        (home / "texts.txt").write_text("\n".join(sentences(400)))
    first, second = (exported(model, home, seed) for home, seed in zip(homes, ("1", "2"), strict=True))
    assert first == second
    assert {"fp32/onnx/model.onnx", "int8/onnx/model.onnx", "fp32/manifest.json", "int8/manifest.json"} <= first.keys()
    assert first["fp32/onnx/model.onnx"] != first["int8/onnx/model.onnx"]
