"""Drafts of several machines and threads on one volume: none mixes with another, and only the dead are removed."""

import os
import threading
import time
from pathlib import Path

import pytest
from artifacts import make

from compressor.artifact.folder import Artifact, writing
from compressor.core.files import this_machine

OTHER = "0" * 8 if this_machine() != "0" * 8 else "1" * 8
PID = os.getpid()
WEEK = 7 * 86_400


def left(folder: Path, name: str, age: float = 0) -> Path:
    (folder / name).mkdir()
    (folder / name / "model.bin").write_text("left")
    os.utime(folder / name, (time.time() - age,) * 2)
    return folder / name


def test_each_writer_has_a_draft_of_its_own(tmp_path: Path) -> None:
    with writing(tmp_path / "made", "stage", "a") as one:
        (one.folder / "one").touch()
        with writing(tmp_path / "made", "stage", "b") as other:
            assert one.folder != other.folder
            (other.folder / "other").touch()
        assert list(Artifact.open(tmp_path / "made").manifest["files"]) == ["other"]
        assert (one.folder / "one").exists()
    assert list(Artifact.open(tmp_path / "made").manifest["files"]) == ["one"]
    assert os.listdir(tmp_path) == ["made"]


def test_threads_leave_one_whole_artifact(tmp_path: Path) -> None:
    together, failed = threading.Barrier(2), []

    def write(name: str) -> None:
        try:
            with writing(tmp_path / "made", "stage", name) as draft:
                together.wait(20)
                (draft.folder / name).touch()
        except Exception as error:
            failed.append(str(error))

    threads = [threading.Thread(target=write, args=[name]) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("another process wrote it at the same time" in line for line in failed)
    made = Artifact.open(tmp_path / "made")
    assert list(made.manifest["files"]) == [made.key]


@pytest.mark.parametrize("kind", ["partial", "old"])
def test_what_another_machine_may_be_at_work_in_stays_for_a_week(tmp_path: Path, kind: str) -> None:
    """It has a process of this number, too: containers all begin with 1."""
    make(tmp_path / "made")
    living = left(tmp_path, f".made.{kind}-abcdef01{OTHER}-{PID}", age=WEEK - 3600)
    dead = left(tmp_path, f".made.{kind}-abcdef02{OTHER}-{PID}", age=WEEK + 3600)
    make(tmp_path / "made")
    assert living.exists()
    assert not dead.exists()


@pytest.mark.parametrize("tag", [f"abcdef01{this_machine()}-", ""], ids=["named", "of earlier releases"])
def test_what_a_process_of_the_same_number_left_here_is_removed_or_brought_back(tmp_path: Path, tag: str) -> None:
    partial, aside = left(tmp_path, f".made.partial-{tag}{PID}"), tmp_path / f".made.old-{tag}{PID}"
    make(tmp_path / "made", "earlier")
    os.rename(tmp_path / "made", aside)
    with writing(tmp_path / "made", "stage", "key"):
        assert not partial.exists()
        assert (tmp_path / "made" / "model.bin").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["made"]
