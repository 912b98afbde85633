"""Two nodes that train together, as torchrun starts them: two of its agents on this machine, each in its own folder."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from running import RECIPE, whole, write_recipe

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
Start = Callable[..., list["subprocess.Popen[str]"]]


@pytest.fixture
def start(tmp_path: Path, tiny: Path) -> Start:
    """Return what starts both nodes on the same words; they share a cache, and have recipe and texts of their own."""
    for node in ("0", "1"):
        (tmp_path / node).mkdir()
        write_recipe(tmp_path / node, RECIPE, tiny)

    def nodes(*words: str) -> list["subprocess.Popen[str]"]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = ["--master-addr", "127.0.0.1", "--master-port", str(free.getsockname()[1])]
        given = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COMPRESSOR_CACHE": str(tmp_path / "cache")}
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", *place]
        return [
            subprocess.Popen(
                [*torchrun, "--node-rank", node, "-m", "compressor.cli", *words],
                cwd=tmp_path / node,
                env=os.environ | given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for node in ("0", "1")
        ]

    return nodes


def test_the_first_writes_and_measures_and_the_others_end(start: Start, tmp_path: Path) -> None:
    running = start("run", "tiny.toml", "--runs", str(tmp_path / "runs"), "--json")
    [first, second] = [node.communicate(timeout=1200) for node in running]
    assert [node.returncode for node in running] == [0, 0], first[1] + second[1]
    assert second[0] == ""
    assert json.loads(first[0]) == json.loads((tmp_path / "runs" / "tiny" / "results.json").read_text())
    assert {"distil", "verify", "bench", "artifacts/int8"} <= set(whole(tmp_path / "runs" / "tiny"))
    assert not list((tmp_path / "runs").rglob(".*partial*"))
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == ["sts.csv", "texts.txt", "tiny.toml"]
    figures = json.loads((tmp_path / "runs" / "tiny" / "distil" / "manifest.json").read_text())["figures"]
    assert figures["steps"] == 45  # 2 epochs of 360 texts, 16 a step of both together


def test_a_killed_process_ends_all_and_the_same_command_goes_on(start: Start, tmp_path: Path, tiny: Path) -> None:
    words = ["--teacher", str(tiny), "--texts", "texts.txt", "--out", str(tmp_path / "out" / "student")]
    fields = "--layers 0,3 --batch-size 16 --epochs 30 --checkpoint-steps 10 --precision fp32"
    words += fields.split()
    running = start("distil", *words)
    deadline = time.monotonic() + 600
    while not list((tmp_path / "out").glob(".student-checkpoints-*/checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline
        assert running[0].poll() is None, running[0].communicate()[1]
        time.sleep(0.1)
    [worker] = psutil.Process(running[1].pid).children()
    worker.kill()
    [first, _] = [node.communicate(timeout=600)[1] for node in running]
    assert [node.returncode for node in running] == [1, 1]
    line = "error: rank 0: another process of this training was lost; the same command, for all processes, goes on"
    assert line in first
    assert not (tmp_path / "out" / "student").exists()
    again = start("distil", *words)
    said = [node.communicate(timeout=600)[1] for node in again]
    assert [node.returncode for node in again] == [0, 0], said
    figures = json.loads((tmp_path / "out" / "student" / "manifest.json").read_text())["figures"]
    assert figures["steps"] == 600
    assert 10 <= figures["resumed_at_step"] < 600
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["student"]
