"""What systems, git and downloaders leave in a folder is named and not read; what a loader could read is refused."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from compressor.artifact.folder import Artifact, writing
from compressor.artifact.manifest import is_stray
from compressor.core.errors import ArtifactError
from compressor.untrusted.inspection import Finding, inspect

LEFT = [
    ".DS_Store",
    "onnx/.DS_Store",
    "onnx/Thumbs.db",
    "desktop.ini",
    ".cache/huggingface/.gitignore",
    ".cache/huggingface/CACHEDIR.TAG",
    ".cache/huggingface/download/onnx/model.onnx.metadata",
    ".cache/huggingface/download/onnx/model.onnx.lock",
    f".cache/huggingface/trees/{'0a' * 20}.json",
    ".git/HEAD",
    ".git/refs/tags/v1.0",
    ".git/objects/pack/pack-1.pack",
]
READ = [
    "model.onnx_data",
    "onnx/model_int8.onnx",
    "._model.onnx",
    ".hidden",
    ".env",
    "modeling.py",
    "added_tokens.json",
    "merges.txt",
    "pytorch_model.bin",
    ".cache/model.safetensors",
    ".cache/huggingface/model.onnx",
    ".cache/huggingface/x.PY",
    ".cache/huggingface/trees/config.json",
    f"onnx/trees/{'0a' * 20}.json",
    ".git/hooks/evil.py",
    ".git/config.json",
    "sub/.git/HEAD",
    "onnx/.cache/huggingface/x.lock",
    ".gitattributes",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with writing(tmp_path / "int8", "artifacts/int8", "key") as draft:
        (draft.folder / "onnx").mkdir()
        (draft.folder / "onnx" / "model.onnx").write_bytes(b"graph")
        (draft.folder / "config.json").write_text("{}")
    return tmp_path / "int8"


def leave(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("left")


def test_what_was_left_is_named_and_not_read(folder: Path) -> None:
    assert Artifact.open(folder).strays == ()
    for name in LEFT:
        leave(folder, name)
    assert Artifact.open(folder).strays == tuple(sorted(LEFT))
    files, strays = first(folder, 2)
    assert files.found == "2 files, 0.0 MB, as manifest.json says"
    assert strays.as_dict() == {
        "check": "strays",
        "passed": None,
        "found": ".DS_Store, .cache (5 files), .git (3 files), desktop.ini, onnx (2 files): not named in manifest.json,"
        " and not read",
    }


def first(folder: Path, count: int) -> list[Finding]:
    found = inspect(folder)
    return [next(found) for _ in range(count)]


@pytest.mark.parametrize("name", READ)
def test_what_a_loader_could_read_is_refused(name: str, folder: Path) -> None:
    assert not is_stray(name)
    leave(folder, name)
    with pytest.raises(ArtifactError, match="not named in manifest.json$"):
        Artifact.open(folder)


def test_a_link_is_refused_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"\.git/HEAD: a symbolic link; files of an artifact are plain$"):
        Artifact.open(folder)


@pytest.mark.parametrize("linked", ["manifest.json", "onnx/model.onnx"])
def test_the_hubs_cache_is_told_how_to_become_files(linked: str, folder: Path, tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "0123"
    blob.parent.mkdir()
    shutil.move(folder / linked, blob)
    (folder / linked).symlink_to(os.path.relpath(blob, (folder / linked).parent))
    with pytest.raises(ArtifactError) as caught:
        Artifact.open(folder)
    assert str(caught.value) == (
        f"{folder / linked}: a link into the hub's cache; for plain files hf download REPOSITORY --local-dir FOLDER, or"
        " cp -rL"
    )
    shutil.copytree(folder, tmp_path / "plain")  # which follows links
    Artifact.open(tmp_path / "plain")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_clone_by_git_is_whole(folder: Path, tmp_path: Path) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "one"], ["tag", "v1.0"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    subprocess.run(["git", "clone", "-q", folder, tmp_path / "clone"], check=True, capture_output=True)
    for made in (folder, tmp_path / "clone"):
        assert all(name.startswith(".git/") for name in Artifact.open(made).strays)
        assert len(Artifact.open(made).strays) > 5


def test_strays_are_not_signed(folder: Path, tmp_path: Path) -> None:
    signing = pytest.importorskip(
        "model_signing.signing", reason="model-signing is not installed", exc_type=ImportError
    )
    assert signing is not None
    from exporters.publish.trust import _hashing

    leave(folder, ".DS_Store")
    before = _hashing(folder).hash(folder)
    (folder / ".DS_Store").write_text("other")
    leave(folder, ".git/HEAD")
    assert _hashing(folder).hash(folder) == before
