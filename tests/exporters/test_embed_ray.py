"""On a Ray cluster: the same bytes as alone, whoever is killed, and one line for what goes wrong on it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import sentences
from commands import Command, refusal
from embeddable import parts, rows_of
from raycluster import wait_for, workers_of

from compressor.core.errors import CompressorError, TextError
from compressor.machine import cluster as clusters
from compressor.machine.cluster import Cluster, Work, spread
from exporters import embed

ray = pytest.importorskip("ray", reason="ray is not installed; make test-ray has it")
pytestmark = pytest.mark.packages
ROOT = Path(__file__).parents[2]
ROWS, SHARD = 24_000, 256
SHARDS = -(-ROWS // SHARD)
OPTIONS: dict[str, Any] = {"shard_rows": SHARD, "precision": "float16", "with_text": True}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in sentences(ROWS)))
    return path


@pytest.fixture(scope="module")
def alone(embeddable: Path, source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files that one process writes."""
    out = tmp_path_factory.mktemp("alone") / "out"
    embed(embeddable, source, out, threads=1, **OPTIONS)
    return parts(out)


@pytest.fixture(scope="module")
def two_cores() -> Iterator[str]:
    """Hold a cluster of two cores, which ``auto`` takes in this process; return its address for others."""
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 27)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def start(embeddable: Path, source: Path, out: Path, address: str) -> "subprocess.Popen[str]":
    given = ["--shard-rows", str(SHARD), "--precision", "float16", "--with-text", "true", "--ray", address]
    command = ["embed", str(embeddable), str(source), "--out", str(out), *given, "--workers", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", "compressor.cli", *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def there(out: Path) -> int:
    return len(list(out.glob("part-*")))


def test_a_killed_worker_loses_and_doubles_nothing(
    embeddable: Path, source: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    program = start(embeddable, source, out, "local")
    wait_for(lambda: there(out) >= 4, program)
    first, second = workers_of(program.pid)
    first.send_signal(signal.SIGKILL)
    assert there(out) < SHARDS - 10
    others = {first.pid, second.pid}
    wait_for(lambda: len({process.pid for process in workers_of(program.pid)} - others) == 1, program)
    shown, told = program.communicate(timeout=300)
    assert program.returncode == 0, told
    assert told.count("a worker was lost; its work is done by another\n") == 1
    assert shown.startswith(f"{out}: {ROWS:,} rows in {SHARDS} shards, ")
    assert parts(out) == alone
    assert [path.name for path in out.glob(".*")] == [".lock"]
    assert rows_of(out)["text"].to_pylist() == sentences(ROWS)


def test_a_killed_program_goes_on(
    two_cores: str, embeddable: Path, source: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    program = start(embeddable, source, out, two_cores)
    wait_for(lambda: there(out) >= 4, program)
    assert len(workers_of(os.getpid())) == 2
    program.kill()
    program.communicate()
    again = start(embeddable, source, out, two_cores)
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told
    assert told.startswith(f"{out}: ")
    assert told.endswith(f" of {ROWS:,} rows are there\n")
    assert parts(out) == alone
    assert [path.name for path in out.glob(".*")] == [".lock"]


@pytest.mark.parametrize("to", ["parquet", "npy"])
def test_a_cluster_that_is_there(to: str, two_cores: str, embeddable: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(sentences(1000)))
    for name, given in {"alone": {}, "cluster": {"ray": "auto", "workers": 2}}.items():
        done = embed(embeddable, tmp_path / "a.txt", tmp_path / name, 1, to=to, shard_rows=90, **given)
        assert (done.rows, done.shards, done.computed) == (1000, 12, 1000)
    assert parts(tmp_path / "cluster") == parts(tmp_path / "alone")
    assert ray.is_initialized()


def test_paths_need_not_be_absolute(
    two_cores: str, embeddable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("\n".join(sentences(50)))
    monkeypatch.chdir(tmp_path)
    artifact = os.path.relpath(embeddable, tmp_path)
    assert embed(artifact, "a.txt", "out", ray="auto", shard_rows=10).computed == 50


def test_what_a_worker_refuses_is_said_as_alone(two_cores: str, embeddable: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"text": text, "id": number}) for number, text in enumerate(sentences(500))]
    lines[321] = '{"text": "no id"}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    told = []
    for given in ({}, {"ray": "auto", "workers": 2}):
        with pytest.raises(TextError) as caught:
            embed(
                embeddable, tmp_path / "a.jsonl", tmp_path / str(len(told)), 1, id_column="id", shard_rows=50, **given
            )
        told.append(str(caught.value))
    assert told[0] == told[1]
    assert "line 322" in told[0]


def test_what_kills_its_workers_is_given_up(two_cores: str, capsys: pytest.CaptureFixture[str]) -> None:
    class Deadly(Work):
        def open(self) -> None:
            pass

        def do(self, number: int) -> int:
            if number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return 1

    done: list[int] = []
    with pytest.raises(CompressorError, match=r"^3 workers were lost at shard 3; the last: The actor died"):
        spread(Deadly(), range(6), Cluster("auto", 2), done.append)
    assert capsys.readouterr().err.count("a worker was lost") == 2


def test_more_workers_than_there_is_room_for(two_cores: str) -> None:
    class Fine(Work):
        def open(self) -> None:
            pass

        def do(self, number: int) -> int:
            return number

    done: list[int] = []
    spread(Fine(), range(20), Cluster("auto", 7), done.append)
    assert sorted(done) == list(range(20))
    done.clear()
    spread(Fine(), range(5), Cluster("auto"), done.append)
    assert sorted(done) == list(range(5))


def test_no_machine_is_large_enough(
    two_cores: str, embeddable: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "START_SECONDS", 1.0)
    (tmp_path / "a.txt").write_text("a\n")
    line = refusal(
        command("embed", embeddable, tmp_path / "a.txt", "--out", tmp_path / "o", "--ray", "auto", "--threads", 9)
    )
    assert line == (
        "error: threads = 9: no worker of so many cores started in 1 s; "
        "the largest machine of the cluster has 2, and others may be using it"
    )


def test_no_cluster_at_the_address(embeddable: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    given = ("embed", embeddable, tmp_path / "a.txt", "--out", tmp_path / "out", "--ray", "nonsense")
    assert refusal(command(*given)).startswith("error: ray = nonsense: no cluster that can be used: ")
