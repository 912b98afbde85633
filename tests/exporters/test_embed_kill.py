"""Killed at any moment, the same call goes on, and the folder ends with the same bytes, every text once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import sentences
from embeddable import parts, rows_of

from exporters import embed

ROOT = Path(__file__).parents[2]
KILLER = """
import os, random, signal, sys, time
from pathlib import Path
from exporters.embedding.run import embed  # what is opened is opened by the children alone

artifact, source, out, kills, most = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:])
chance, killed, tries = random.Random(0), 0, 0

def begin():
    child = os.fork()
    if not child:
        embed(artifact, source, out, threads=1, shard_rows=64, precision="float16", with_text=True)
        os._exit(0)
    return child

while killed < kills:
    child = begin()
    wanted = min(len(list(out.glob("part-*"))) + chance.randrange(most), 999)
    deadline = time.monotonic() + 30
    while len(list(out.glob("part-*"))) < wanted and time.monotonic() < deadline:
        time.sleep(0.0005)
    time.sleep(chance.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was done before it was killed"
    killed += 1
    print(len(list(out.glob("part-*"))), flush=True)
_, status = os.waitpid(begin(), 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def kill(artifact: Path, source: Path, out: Path, kills: int, most: int) -> list[int]:
    """Kill as many runs as said, each when it has written up to ``most`` parts more; return how many were there."""
    command = [sys.executable, "-c", KILLER, str(artifact), str(source), str(out), str(kills), str(most)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr[-2000:]
    return [int(line) for line in done.stdout.split()]


@pytest.mark.parametrize(
    ("kills", "rows", "most"), [(6, 6000, 8), pytest.param(30, 40_000, 12, marks=pytest.mark.slow)]
)
def test_killed_it_ends_with_the_same_bytes(kills: int, rows: int, most: int, embeddable: Path, tmp_path: Path) -> None:
    source, still, out = tmp_path / "a.jsonl", tmp_path / "still", tmp_path / "killed"
    texts = sentences(rows)
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    embed(embeddable, source, still, threads=1, shard_rows=64, precision="float16", with_text=True)
    there = kill(embeddable, source, out, kills, most)
    assert len(there) == kills
    assert there == sorted(there)
    assert there[-1] < -(-rows // 64)
    assert len(set(there)) > kills // 3
    assert parts(out) == parts(still)
    assert sorted(path.name for path in out.glob(".*")) == [".lock"]
    made = rows_of(out)
    assert (made["id"].to_pylist(), made["text"].to_pylist()) == (list(range(rows)), texts)
