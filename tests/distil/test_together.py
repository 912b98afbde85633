"""Processes that train together hold what is before them against each other, and count what they saw as one."""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from compressor.core.errors import CompressorError, RecipeError
from compressor.distil.training import together
from compressor.distil.training.together import check_together, connected, meet, summed

ROOT = Path(__file__).parents[2]
PROCESS = """
import json, os, sys
from pathlib import Path

import numpy as np

from compressor.artifact.workspace import Key
from compressor.core.errors import CompressorError
from compressor.distil.training import together

home, rank = Path(sys.argv[1]), os.environ["RANK"]
own = home if rank == "0" else home / "other"


def said(teacher="teacher", corpus="corpus", key="key", cache=home / "cache", runs=home / "runs"):
    os.environ["COMPRESSOR_CACHE"] = str(cache)
    try:
        together.check_together(Key(teacher), Key(corpus), key, runs / ".distil-checkpoints-key")
    except CompressorError as error:
        return str(error).replace(str(home), "HOME")


found = {
    "same": said(),
    "teacher": said(teacher="wide-" + rank),
    "texts": said(corpus="corpus-" + rank),
    "key": said(key=40 * "k" + "-0" if rank == "0" else "j" + 40 * "k"),
    "cache": said(cache=own / "cache"),
    "runs": said(runs=own / "runs"),
    "left": sorted(path.relative_to(home).as_posix() for path in home.rglob("*")),
    "sum": together.summed(np.array([1, 10 + int(rank)])).tolist(),
}
print(json.dumps(found))
if rank == "1":
    os._exit(0)  # without a word
try:
    with together.connected():
        together.summed(np.array([1]))
except CompressorError as error:
    print(error)
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Return the lines that two processes print, of rank 0 and of rank 1."""
    home = tmp_path_factory.mktemp("home")
    port = str(free_port())
    given = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(home)],
            env=os.environ | given | {"MASTER_PORT": port, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        shown = [process.communicate(timeout=900)[0].splitlines() for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0]
    return shown


@pytest.mark.parametrize(
    ("case", "line"),
    [
        ("same", None),
        (
            "teacher",
            "distil: teacher: wide-0 for the process of rank 0, wide-1 for that of rank 1; all must have the same",
        ),
        (
            "texts",
            "distil: texts: corpus-0 for the process of rank 0, corpus-1 for that of rank 1; all must have the same",
        ),
        (
            "key",
            "distil: settings, code, packages or arithmetic: kkkkkkkkkkkk for the process of rank 0, jkkkkkkkkkkk for "
            "that of rank 1; all must have the same",
        ),
    ],
)
def test_what_all_must_have(found: list[list[str]], case: str, line: str | None) -> None:
    assert [json.loads(lines[0])[case] for lines in found] == [line, line]


@pytest.mark.parametrize("folder", ["cache", "runs"])
def test_a_folder_that_is_another_ones(found: list[list[str]], folder: str) -> None:
    line = ": not the same folder for the processes of rank 0 and rank 1; all must see the same"
    places = [f"HOME/{folder}", f"HOME/other/{folder}"]
    assert [json.loads(lines[0])[folder] for lines in found] == [place + line for place in places]


def test_no_mark_is_left(found: list[list[str]]) -> None:
    assert json.loads(found[0][0])["left"] == ["cache", "runs"]


def test_counts_are_summed_over_all(found: list[list[str]]) -> None:
    assert [json.loads(lines[0])["sum"] for lines in found] == [[2, 21]] * 2


def test_a_lost_process_is_said_in_one_line(found: list[list[str]]) -> None:
    line = "rank 0: another process of this training was lost; the same command, for all processes, goes on from the "
    assert found[0][1].startswith(line + "last checkpoint (")


def test_a_process_alone_meets_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    check_together(None, None, "", tmp_path / "none" / "checkpoints")  # type: ignore[arg-type]  # not looked at
    assert not list(tmp_path.iterdir())
    assert summed(np.array([3])).tolist() == [3]
    with pytest.raises(RuntimeError, match=r"^gloo$"), connected():
        raise RuntimeError("gloo")


def test_other_errors_of_a_process_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"^out of memory$"), connected():
        raise RuntimeError("out of memory")
    with (
        pytest.raises(CompressorError, match=r" goes on from the last checkpoint \(Connection closed by peer\)$"),
        connected(),
    ):
        raise RuntimeError("[/__w/gloo/transport/tcp/pair.cc:534] Connection closed by peer")


def test_a_process_waits_for_the_others_no_longer_than_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(together, "_COME_WITHIN", timedelta(seconds=1))
    with pytest.raises(CompressorError, match=r"^rank 1: not all of 2 processes came in 1 s: "):
        meet()


def test_processes_that_do_not_know_where_the_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    line = r"^environment variable WORLD_SIZE = 2: start the processes with torchrun: .*MASTER_ADDR"
    with pytest.raises(RecipeError, match=line):
        meet()
