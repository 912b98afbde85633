"""Killed at any moment, a run goes on and ends with the same files; what looks finished is whole."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from running import RECIPE, whole, write_recipe

from compressor.artifact.folder import sha256, writing
from compressor.core.errors import CompressorError, StorageError
from exporters.graph.export import Export

resource = pytest.importorskip("resource")
STAGES = [
    "distil",
    "export",
    "optimise",
    "int8",
    "verify",
    "ranges",
    "artifacts/fp32",
    "artifacts/int8",
    "story",
    "bench",
]
ROOT = Path(__file__).parents[2]
WRITER = """
import pathlib, random, sys
from compressor.artifact.folder import writing
from compressor.core.errors import ArtifactError
to, busy = pathlib.Path(sys.argv[1]), 0
for number in range(int(sys.argv[2])):
    try:
        with writing(to / f"stage-{number % 3}", "stage", str(number)) as draft:
            for name in ("a.bin", "b/c.bin", "d.json"):
                (draft.folder / name).parent.mkdir(exist_ok=True)
                (draft.folder / name).write_bytes(random.randbytes(random.randrange(100_000)))
    except ArtifactError as error:
        assert "another process wrote it at the same time; run the command again" in str(error), error
        busy += 1
print(busy)
"""


def start(command: list[str], **options: object) -> subprocess.Popen[str]:
    """Start a command as a group of processes of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | dict(options.pop("env", {}))  # type: ignore[call-overload]
    return subprocess.Popen(
        command, env=environment, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        **options,
    )  # type: ignore[call-overload, no-any-return]  # fmt: skip


def kill(process: subprocess.Popen[str], after: float) -> bool:
    """Kill the group after so many seconds; return whether it was still at work."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    _, err = process.communicate()
    assert process.returncode == 0, err[-2000:]
    return False


def test_a_writer_killed_at_any_moment_leaves_whole_folders(tmp_path: Path) -> None:
    source, seen = random.Random(0), 0
    for _ in range(12):
        process = start([sys.executable, "-c", WRITER, str(tmp_path), "1000000"])
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert kill(process, 0.2 + source.random() / 4)
        seen += len(whole(tmp_path))
    assert seen > 12
    done = start([sys.executable, "-c", WRITER, str(tmp_path), "3"])
    assert done.communicate()[0] == "0\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage-0", "stage-1", "stage-2"]
    assert len(whole(tmp_path)) == 3


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    both = [start([sys.executable, "-c", WRITER, str(tmp_path), "200"]) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert whole(tmp_path) == ["stage-0", "stage-1", "stage-2"]


@pytest.mark.parametrize("most_bytes", [1000, 20_000, 100_000])
def test_a_file_may_not_grow(tiny: Path, tmp_path: Path, most_bytes: int) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        with pytest.raises(CompressorError) as caught, writing(tmp_path / "made", "export", "key") as to:
            Export().run(tiny, to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(caught.value, StorageError), caught.value
    assert str(caught.value).startswith(f"{tmp_path / 'made'}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no place that even its owner may not write")
def test_a_folder_that_may_not_be_written() -> None:
    with (
        pytest.raises(StorageError, match=r"^/sys/kernel/made: may not be written \("),
        writing(Path("/sys/kernel/made"), "stage", "key"),
    ):
        pass


@pytest.fixture
def home(tmp_path: Path, tiny: Path) -> Path:
    return write_recipe(tmp_path, RECIPE, tiny, texts=300, pairs=40)


def begin(home: Path, name: str) -> subprocess.Popen[str]:
    """Run the recipe into a folder of that name; the model's own name, which its card has, is always the same."""
    command = [sys.executable, "-m", "compressor.cli", "run", "tiny.toml", "--runs", name]
    return start(command, cwd=home, env={"COMPRESSOR_CACHE": str(home / f"cache-{name}")})


def hashes(folder: Path) -> dict[str, str]:
    """Return the hash of every file that is handed out; a manifest says how long its making took."""
    made = folder / "artifacts"
    files = sorted(path for path in made.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(made).as_posix(): sha256(path) for path in files}


def kill_within(process: subprocess.Popen[str], folder: Path, stage: str, after: float) -> bool:
    """Kill the group so many seconds after a stage has begun; return whether it was still at work."""
    home, _, name = f"{folder}/{stage}".rpartition("/")
    while process.poll() is None and not list(Path(home).glob(f".{name}.partial-*")):
        time.sleep(0.002)
    return kill(process, after)


@pytest.mark.slow
def test_a_run_killed_at_thirty_moments_ends_with_the_same_files(home: Path) -> None:
    kills, source = int(os.environ.get("COMPRESSOR_KILLS", "30")), random.Random(0)
    assert not kill(begin(home, "still"), 1800)
    expected = hashes(home / "still" / "tiny")
    assert len(expected) > 20
    killed, number, moments = 0, 0, Counter[str]()
    while killed < kills:
        folder = home / f"killed-{number}" / "tiny"
        # Some of a run's stages, in their order: as many kills as there are, then to the end.
        for stage in sorted(source.sample(STAGES, 5), key=STAGES.index):
            if killed < kills and kill_within(begin(home, folder.parent.name), folder, stage, source.random() ** 2):
                killed += 1
                moments[stage] += 1
            whole(folder)
        assert not kill(begin(home, folder.parent.name), 1800)
        whole(folder)
        assert hashes(folder) == expected
        assert not [path.name for path in folder.rglob(".*") if path.name != ".lock"]
        number += 1
    print(f"killed {killed} times in {number} runs: {dict(moments)}")
    assert killed == kills


@pytest.mark.slow
def test_a_second_run_in_one_folder_is_one_line(home: Path) -> None:
    from compressor.artifact.workspace import Workspace

    with Workspace(home / "busy" / "tiny").lock():
        process = begin(home, "busy")
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err == "error: busy/tiny: another run is at work in this folder\n"
