"""A full disk, one that may not be written, two at work in one folder: a clear line each, and nothing by halves."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from builders import sentences
from questions import SHAPE, write_reader_recipe
from running import RECIPE, whole, write_recipe
from transformers.utils import logging

from compressor.artifact.folder import Artifact
from compressor.artifact.workspace import Workspace
from compressor.cli.app import app, guarded

Line = Callable[..., str]


@dataclass(frozen=True)
class Disk:
    """A file system of its own, in memory."""

    folder: Path

    def mount(self, **options: object) -> None:
        said = ",".join(name if value is True else f"{name}={value}" for name, value in options.items())
        subprocess.run(["mount", "-t", "tmpfs", "-o", said, "none", self.folder], check=True, capture_output=True)

    def be(self, **options: object) -> None:
        self.mount(remount=True, **options)

    def left(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount an empty disk of 48 KiB; skip where nobody may."""
    made = Disk(tmp_path / "disk")
    made.folder.mkdir()
    try:
        made.mount(size=48 << 10)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    yield made
    subprocess.run(["umount", "--lazy", made.folder], check=True)


@pytest.fixture
def line(capsys: pytest.CaptureFixture[str]) -> Iterator[Line]:
    """Return a function that runs a command, which must fail, and gives its one line."""
    logging.disable_progress_bar()  # as the program itself has it

    def run(*words: object) -> str:
        capsys.readouterr()
        assert guarded(lambda: app([str(word) for word in words])) == 1
        lines = capsys.readouterr().err.splitlines()
        notes = [line for line in lines[:-1] if not line.startswith("texts: ")]  # which texts there are is told first
        assert not notes
        assert lines[-1].startswith("error: ")
        return lines[-1].removeprefix("error: ")

    yield run
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a private key."""
    pytest.importorskip("model_signing.signing", reason="model-signing is not installed", exc_type=ImportError)
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path, kinds = tmp_path_factory.mktemp("key") / "private.pem", serialization
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, kinds.NoEncryption()
    )
    path.write_bytes(pem)
    return path


@pytest.fixture
def commands(sealed: Path, tiny: Path, reader: Path, key: Path, tmp_path: Path) -> dict[str, list[object]]:
    """Return every command that hands something out, but for where it writes."""
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(sentences(400)))
    packs = {f"pack {name}": ["pack", sealed / "int8", "--target", name] for name in ("ort", "hub", "token-embeddings")}
    shape = [part for name, value in SHAPE.items() for part in (f"--{name.replace('_', '-')}", value)]
    return packs | {
        "export": ["export", tiny],
        "export-reader": ["export-reader", reader / "torch", *shape],
        "quantize": ["quantize", sealed / "fp32", "--ranges", "batch", "--texts", texts],
        "sign": ["sign", sealed / "int8", "--key", key],
        "sbom": ["sbom", sealed / "int8"],
    }


def written(words: list[object], to: Path) -> list[object]:
    return [*words, "--signature" if words[0] == "sign" else "--out", to]


NAMES = [
    "pack ort", "pack hub", "pack token-embeddings", "export", "export-reader", "quantize", "sign", "sbom",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_full_disk_is_one_line_and_keeps_what_was_there(
    name: str, disk: Disk, line: Line, commands: dict[str, list[object]]
) -> None:
    to = disk.folder / "made"
    if name in ("sign", "sbom"):
        to.write_text("earlier")
        (disk.folder / "full").write_bytes(b"x" * (44 << 10))
    before = disk.left()
    assert line(*written(commands[name], to)) == f"{to}: no space left on the device"
    assert disk.left() == before
    assert not before or to.read_text() == "earlier"


@pytest.mark.parametrize("name", NAMES)
def test_a_disk_that_may_not_be_written_is_one_line(
    name: str, disk: Disk, line: Line, commands: dict[str, list[object]]
) -> None:
    disk.be(ro=True)
    to = disk.folder / "made"
    assert line(*written(commands[name], to)) == f"{to}: may not be written (Read-only file system)"


def run_words(kind: str, home: Path, tiny: Path) -> list[object]:
    if kind == "answers":
        return ["run", write_reader_recipe(home, tiny)]
    return ["run", write_recipe(home, RECIPE, tiny, texts=300, pairs=40) / "tiny.toml"]


@pytest.mark.parametrize("kind", ["tiny", "answers"])
def test_a_run_where_nothing_may_be_written_is_one_line(
    kind: str, disk: Disk, line: Line, tiny: Path, tmp_path: Path
) -> None:
    words = run_words(kind, tmp_path, tiny)
    disk.be(ro=True)
    to = disk.folder / kind
    assert line(*words, "--runs", disk.folder) == f"{to}: may not be written (Read-only file system)"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiny", "answers"])
def test_a_run_on_a_disk_that_fills_goes_on_when_there_is_room(
    kind: str, disk: Disk, line: Line, tiny: Path, tmp_path: Path
) -> None:
    words, size, fills = run_words(kind, tmp_path, tiny), 48 << 10, 0
    stages: set[str] = set()
    while True:
        status = guarded(lambda: app([str(word) for word in (*words, "--runs", disk.folder)]))
        stages |= set(whole(disk.folder))
        if not status:
            break
        assert status == 1
        fills, size = fills + 1, size * 3 // 2
        disk.be(size=size)
    assert fills > 5
    assert {"artifacts/fp32", "artifacts/int8"} <= {name.removeprefix(f"{kind}/") for name in stages}
    assert not [path.name for path in (disk.folder / kind).rglob(".*") if path.name != ".lock"]


@pytest.mark.parametrize("kind", ["tiny", "answers"])
def test_a_second_run_in_one_folder_is_one_line(kind: str, line: Line, tiny: Path, tmp_path: Path) -> None:
    words = run_words(kind, tmp_path, tiny)
    with Workspace(tmp_path / "runs" / kind).lock():
        said = line(*words, "--runs", tmp_path / "runs")
    assert said == f"{tmp_path / 'runs' / kind}: another run is at work in this folder"


WORKER = """
import sys
from compressor.cli.app import app
from compressor.core.errors import ArtifactError
for number in range(3):
    for words in json.loads(sys.argv[1]):
        try:
            app(words, standalone_mode=False)
        except ArtifactError as error:
            assert "another process wrote it at the same time; run the command again" in str(error), error
"""


@pytest.mark.slow
def test_two_at_once_leave_whole_folders(commands: dict[str, list[object]], tmp_path: Path) -> None:
    made = tmp_path / "made"
    words = [[str(word) for word in written(commands[name], made / name.replace(" ", "-"))] for name in NAMES]
    command = [sys.executable, "-c", f"import json{WORKER}", json.dumps(words)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in "ab"]
    told: list[Any] = [process.communicate(timeout=900)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sorted(path.name for path in made.iterdir()) == sorted(name.replace(" ", "-") for name in NAMES)
    for name in NAMES[:-2]:
        Artifact.open(made / name.replace(" ", "-"))
    assert json.loads((made / "sbom").read_text())["specVersion"] == "1.6"
    assert json.loads((made / "sign").read_text())["dsseEnvelope"]
