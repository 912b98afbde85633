"""The teacher's vectors on a Ray cluster: the files of one machine, though a worker is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from builders import sentences
from raycluster import wait_for, workers_of

pytest.importorskip("ray", reason="ray is not installed; make test-ray has it")
pytestmark = pytest.mark.packages
ROOT = Path(__file__).parents[2]
TEACH = """
import sys
from pathlib import Path
from compressor.core.cache import cache_folder
from compressor.core.errors import guarded
from compressor.machine.cluster import Cluster
from compressor.models.source import find
from compressor.models.teaching import Asked, teach
texts = Path(sys.argv[2]).read_text().splitlines()
cluster = Cluster(sys.argv[3], 2) if sys.argv[3] != "none" else None
asked = [Asked(texts, "fp32"), Asked(texts[:500], "bf16")]
sys.exit(guarded(lambda: print(teach(find(sys.argv[1]), asked, cluster))))
"""


def start(teacher: Path, texts: Path, cache: Path, cluster: str) -> "subprocess.Popen[str]":
    environment = {"PYTHONPATH": str(ROOT), "COMPRESSOR_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", TEACH, str(teacher), str(texts), cluster],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def files(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (cache / "vectors").iterdir()}


def test_a_killed_worker_loses_and_doubles_nothing(tiny: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(sentences(90_000)))
    alone = start(tiny, texts, tmp_path / "alone", "none")
    assert alone.wait(200) == 0, alone.communicate()
    program = start(tiny, texts, tmp_path / "cluster", "local")
    folder = tmp_path / "cluster" / "vectors"
    wait_for(lambda: len(list(folder.glob("*.npy"))) >= 1, program)
    workers_of(program.pid)[0].send_signal(signal.SIGKILL)
    assert len(list(folder.glob("*.npy"))) < 7
    shown, told = program.communicate(timeout=400)
    assert (program.returncode, shown) == (0, f"{folder}\n"), told
    assert told.count("a worker was lost; its work is done by another\n") == 1
    left = {name for name in files(tmp_path / "cluster") if name.startswith(".")}
    assert all(".partial-" in name for name in left)  # of the killed one; the next call removes it
    made = {name: content for name, content in files(tmp_path / "cluster").items() if name not in left}
    assert len(made) == 7
    assert made == files(tmp_path / "alone")
