"""What is copied from one artifact to what is made of it: its own files, nothing that lies beside or behind them."""

import json
from pathlib import Path

import pytest
from artifacts import fault, names

from compressor.artifact.copying import copy_artifact, copy_consumer_files
from compressor.artifact.folder import Artifact, writing
from compressor.artifact.layout import GRAPH

STRAYS = (
    ".DS_Store", "1_Pooling/.DS_Store", ".git/HEAD", ".git/objects/ab/cdef", ".cache/huggingface/.gitignore",
    ".cache/huggingface/download/config.json.metadata",
)  # fmt: skip


def fill(folder: Path, *more: str) -> None:
    for name in (
        "config.json",
        "1_Pooling/config.json",
        GRAPH.as_posix(),
        "README.md",
        "conformance/cases.json",
        *more,
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return an artifact with what a system, git and a downloader leave."""
    with writing(tmp_path / "source", "stage", "key") as draft:
        fill(draft.folder)
    fill(tmp_path / "source", *STRAYS)
    return tmp_path / "source"


def copied(source: Path, to: Path) -> list[str]:
    copy_artifact(source, to)
    return [name for name in names(to) if (to / name).is_file()]


OWN = ["1_Pooling/config.json", "README.md", "config.json", "conformance/cases.json", GRAPH.as_posix()]


def test_what_its_manifest_names_is_copied(source: Path, tmp_path: Path) -> None:
    assert copied(source, tmp_path / "made") == sorted(OWN)
    with writing(tmp_path / "again", "stage", "key") as draft:
        copy_artifact(source, draft.folder)
    assert Artifact.open(tmp_path / "again").strays == ()


def test_consumers_files_are_all_but_the_graph_and_what_is_said_of_it(source: Path, tmp_path: Path) -> None:
    copy_consumer_files(source, tmp_path / "made")
    files = [name for name in names(tmp_path / "made") if (tmp_path / "made" / name).is_file()]
    assert files == ["1_Pooling/config.json", "config.json"]
    assert (tmp_path / "made" / GRAPH).parent.is_dir()


def test_of_a_view_for_the_hub_the_artifacts_files_are(tmp_path: Path) -> None:
    with writing(tmp_path / "view", "pack/hub", "key") as draft:
        fill(draft.folder, "artifact.json", ".gitattributes")
    assert copied(tmp_path / "view", tmp_path / "made") == sorted(OWN)


def test_a_damaged_one_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "config.json").write_text("CONFIG.json")
    wanted = f"{source / 'config.json'}: sha256 differs from manifest.json"
    assert fault(copy_artifact, source, tmp_path / "made") == wanted
    assert fault(copy_consumer_files, source, tmp_path / "made") == wanted
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("manifest", [True, False])
def test_what_a_link_leads_to_is_not_copied(source: Path, tmp_path: Path, manifest: bool) -> None:
    if not manifest:
        (source / "manifest.json").unlink()
    (tmp_path / "secret").write_text("secret")
    (source / "vocab.txt").symlink_to("../secret")
    line = f"{source / 'vocab.txt'}: a symbolic link; files of an artifact are plain"
    assert fault(copy_artifact, source, tmp_path / "made") == line
    assert not (tmp_path / "made" / "vocab.txt").exists()


def test_a_folder_on_the_way_to_an_artifact_is_copied_without_strays(source: Path, tmp_path: Path) -> None:
    (source / "manifest.json").unlink()
    assert copied(source, tmp_path / "made") == sorted(OWN)


def test_a_manifest_that_is_none_is_not_passed_over(source: Path, tmp_path: Path) -> None:
    (source / "manifest.json").write_text(json.dumps({"name": "an app"}))
    assert "format is not compressor-artifact/2" in fault(copy_artifact, source, tmp_path / "made")
    (source / "manifest.json").unlink()
    (source / "manifest.json").symlink_to("nowhere")
    assert fault(copy_artifact, source, tmp_path / "made").endswith("a symbolic link; files of an artifact are plain")
