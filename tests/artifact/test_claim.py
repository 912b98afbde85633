"""Which folders may be written: empty ones, and those that hold an artifact."""

from pathlib import Path

import pytest
from artifacts import fault, make, names

from compressor.artifact import folder as artifact
from compressor.artifact.folder import MANIFEST, writing
from compressor.core.errors import ArtifactError, StorageError


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    assert make(tmp_path / "made").key == "key"


def occupied(kind: str, tmp_path: Path) -> Path:
    to = tmp_path / "made"
    if kind == "file":
        to.write_text("mine")
    elif kind == "link":
        make(tmp_path / "elsewhere")
        to.symlink_to(tmp_path / "elsewhere")
    elif kind == "dangling":
        to.symlink_to(tmp_path / "nowhere")
    else:
        to.mkdir()
        (to / "mine.txt").write_text("mine")
        if kind == "other":
            (to / MANIFEST).write_text('{"format": "chrome extension", "key": 1, "files": {}, "figures": {}}')
        if kind == "damaged":
            (to / MANIFEST).write_text('{"format": "compressor-arti')
    return to


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("file", "exists and is no folder"),
        ("link", "exists and is no folder"),
        ("dangling", "exists and is no folder"),
        ("folder", "holds something else; give an empty or a new folder"),
        ("other", "holds something else; give an empty or a new folder"),
        ("damaged", "holds something else; give an empty or a new folder"),
    ],
)
def test_what_is_not_ours_is_not_replaced(tmp_path: Path, kind: str, message: str) -> None:
    to = occupied(kind, tmp_path)
    before = names(tmp_path)
    worked = []
    with pytest.raises(ArtifactError) as caught, writing(to, "stage", "key"):
        worked.append(True)
    assert str(caught.value) == f"{to}: {message}"
    assert not worked  # said before any work
    assert names(tmp_path) == before
    if kind not in ("link", "dangling"):
        assert (to if kind == "file" else to / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", [".", "..", "/"])
def test_a_folder_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert fault(make, Path(name)) == f"{name}: give the folder by its name"


def test_a_file_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for to in (tmp_path / "file" / "made", tmp_path / "file" / "a" / "made"):
        with pytest.raises(StorageError) as caught:
            make(to)
        assert str(caught.value) == f"{to}: cannot be made, a file is in the way"


def test_a_folder_that_is_replaced_while_it_is_looked_at_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another writer puts the old folder aside between the look at what it holds and the look at its manifest."""
    to = tmp_path / "made"
    for key in ("old", "new"):
        with writing(tmp_path / key, "stage", key):
            pass
    (tmp_path / "old").rename(to)
    asked = []

    def look(folder: Path) -> bool:
        asked.append(folder)
        if len(asked) == 1:
            to.rename(tmp_path / "aside")
            (tmp_path / "new").rename(to)
            return False
        return is_artifact(folder)

    is_artifact = artifact.is_artifact
    monkeypatch.setattr(artifact, "is_artifact", look)
    artifact.claim(to)
    assert len(asked) == 2

    def vanish(folder: Path) -> bool:
        to.rename(tmp_path / "gone")
        return False

    monkeypatch.setattr(artifact, "is_artifact", vanish)
    artifact.claim(to)
