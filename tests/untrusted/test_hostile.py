"""No damaged or hostile artifact is accepted: each is one clear line, soon, and nothing of it is run."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import damage
import hostility
import pytest

from compressor.artifact.manifest import checked_manifest
from compressor.core.errors import CompressorError
from compressor.untrusted import inspector
from compressor.untrusted.inspection import inspect
from compressor.untrusted.inspector import MEMORY_BYTES, Inspector, described

Damage = Callable[[Path, random.Random], None]
ACCIDENTS: tuple[Damage, ...] = (
    damage.flip, damage.flip_manifest, damage.truncate, damage.lengthen, damage.swap, damage.remove, damage.extra,
    damage.link, damage.hard_link, damage.odd, damage.bad_manifest,
)  # fmt: skip
CHEAP: tuple[Damage, ...] = (hostility.pickles, hostility.code, hostility.settings, hostility.tensors)
GRAPHS: tuple[Damage, ...] = (
    hostility.external, hostility.operator, hostility.function, hostility.opset, hostility.bomb, hostility.contract,
    hostility.cut_graph, hostility.tokenizer, hostility.cases,
)  # fmt: skip
KINDS = (*ACCIDENTS, *CHEAP, *ACCIDENTS, *CHEAP, *GRAPHS, *ACCIDENTS, damage.flip, damage.flip_manifest)
CHECKS = ["files", "settings", "graph", "conformance"]
MOST_SECONDS = 60.0  # of a machine that has other work, too


@pytest.fixture(scope="module")
def artifact(handed_out: Path) -> Path:
    return handed_out


def refused(folder: Path) -> str | None:
    """Return the line that a folder is refused with, None if it is accepted."""
    try:
        for _ in inspect(folder):
            pass
    except CompressorError as error:
        line = str(error)
        assert line.isprintable(), line
        assert len(line) < 600, line
        return line
    return None


def hurt(artifact: Path, home: Path, numbers: range) -> Counter[str]:
    """Damage a copy a number, by its seed; return how often each kind was refused, and fail where one was not."""
    accepted, counts = [], Counter[str]()
    for number in numbers:
        kind, folder = KINDS[number % len(KINDS)], home / f"{number}"
        shutil.copytree(artifact, folder)
        kind(folder, random.Random(number))
        began = time.monotonic()
        line = refused(folder)
        assert time.monotonic() - began < MOST_SECONDS, (number, kind.__name__)
        if line is None:
            accepted.append((number, kind.__name__))
        counts[kind.__name__] += 1
        for left in home.glob(f"{number}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert accepted == []
    assert not (home / "canary").exists()
    return counts


def test_a_whole_artifact_is_accepted(artifact: Path) -> None:
    found = list(inspect(artifact))
    assert [one.check for one in found] == CHECKS
    assert found[2].found.startswith("onnx/model.onnx: ")
    assert "runs and gives vectors of 16" in found[2].found


def test_damaged_artifacts_are_refused(artifact: Path, tmp_path: Path) -> None:
    counts = hurt(artifact, tmp_path, range(len(KINDS)))
    assert set(counts) == {kind.__name__ for kind in KINDS}


@pytest.mark.slow
def test_a_thousand_damaged_artifacts_are_refused(artifact: Path, tmp_path: Path) -> None:
    assert sum(hurt(artifact, tmp_path, range(10_000, 11_000)).values()) == 1000


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_every_flip_of_a_manifest_is_found(artifact: Path, tmp_path: Path, step: int) -> None:
    content = (artifact / "manifest.json").read_bytes()
    checked_manifest(artifact)
    for at in range(0, len(content), step):
        changed = bytearray(content)
        changed[at] ^= 1 << (at % 8)
        (tmp_path / "manifest.json").write_bytes(changed)
        with pytest.raises(CompressorError):
            checked_manifest(tmp_path)


@pytest.mark.parametrize(
    ("bomb", "words"),
    [(32 << 28, "asks for more than "), (1 << 26, "MiB for 8 tokens; at most "), (1 << 40, "asks for")],
)
def test_a_small_graph_that_asks_for_much_memory(tmp_path: Path, bomb: int, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(hostility.small_bomb(bomb))
    assert path.stat().st_size < 1000
    began = time.monotonic()
    with Inspector() as process, pytest.raises(CompressorError, match=words):
        process.ask(path, {"graph": described(path)})
    assert time.monotonic() - began < MOST_SECONDS
    assert MEMORY_BYTES == 2 << 30


@pytest.mark.parametrize("family", ["distilbert", "mpnet", "roberta", "relu", "t5", "wide"])
def test_what_is_exported_is_accepted(artifacts: Callable[..., Path], family: str) -> None:
    for name in ("plain", "int8"):
        path = artifacts(family) / name / "onnx" / "model.onnx"
        with Inspector() as process:
            tokenizer = path.parents[1] / "tokenizer.json"
            found = process.ask(path, {"graph": described(path), "tokenizer": described(tokenizer)})
        assert found["dim"] in (32, 128)


@pytest.mark.parametrize("pooling", ["cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_every_pooling_is_accepted(artifacts: Callable[..., Path], pooling: str) -> None:
    path = artifacts(pooling=pooling, layers=1) / "int8" / "onnx" / "model.onnx"
    with Inspector() as process:
        assert process.ask(path, {"graph": described(path)})["dim"] == 32


def verify(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "importtime", "-m", "compressor.cli", "verify", str(folder), *options]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "400"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_the_command_says_what_it_checked_and_imports_little(artifact: Path) -> None:
    done = verify(artifact)
    assert done.returncode == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [f"pass  {check}" for check in CHECKS]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert {"compressor.artifact.manifest", "pydantic"} <= imported
    slow = {"torch", "transformers", "onnx", "onnxruntime", "tokenizers", "sentence_transformers", "numpy", "yaml"}
    assert not slow & imported


def test_one_process_is_started_and_answers(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, start = [], inspector._start
    monkeypatch.setattr(inspector, "_start", lambda: started.append(start()) or started[-1])
    inspector.start_ahead()
    assert [one.check for one in inspect(artifact)] == CHECKS
    assert [process.returncode for process in started] == [0]


def test_the_command_as_json_and_refusing(artifact: Path, tmp_path: Path) -> None:
    told = json.loads(verify(artifact, "--json").stdout)
    assert [(one["check"], one["passed"]) for one in told] == [(check, True) for check in CHECKS]
    folder = Path(shutil.copytree(artifact, tmp_path / "copy"))
    (folder / "tokenizer.json").write_text("evil")
    done = verify(folder)
    (error,) = [line for line in done.stderr.splitlines() if not line.startswith("import time")]
    size = (artifact / "tokenizer.json").stat().st_size
    assert error == f"error: {folder / 'tokenizer.json'}: 4 bytes, manifest.json says {size}"
    assert (done.returncode, done.stdout) == (1, "")
