"""An artifact's folder is whole or not there, is never written over what is not ours, and tells what was changed."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from artifacts import fault, make, names
from safetensors import SafetensorError

from compressor.artifact import folder as artifact
from compressor.artifact.folder import (
    FORMAT,
    MANIFEST,
    Artifact,
    Draft,
    is_artifact,
    key_of,
    read_manifest,
    sha256,
    size_bytes,
    versions,
    write_json,
    writing,
)
from compressor.core import errors
from compressor.core.errors import ModelError, StorageError


def failing(to: Path, error: BaseException) -> None:
    with writing(to, "stage", "key") as draft:
        (draft.folder / "half").write_text("half")
        raise error


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    made = make(tmp_path / "made")
    assert os.listdir(tmp_path) == ["made"]
    assert names(tmp_path / "made") == ["1_Pooling", "1_Pooling/config.json", MANIFEST, "model.bin"]
    manifest = json.loads((tmp_path / "made" / MANIFEST).read_text())
    assert manifest == {
        "format": FORMAT,
        "stage": "stage",
        "key": "key",
        "config": {"dim": 3},
        "figures": {"cosine": 0.5},
        "versions": versions(),
        "files": {
            "1_Pooling/config.json": {
                "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "size": 2,
            },
            "model.bin": {"sha256": sha256(tmp_path / "made" / "model.bin"), "size": 7},
        },
        "sha256": manifest["sha256"],
    }
    rest = json.dumps({name: value for name, value in manifest.items() if name != "sha256"}, indent=2) + "\n"
    assert manifest["sha256"] == sha256_of(rest.encode())
    assert (made.folder, made.key, made.figures, made.size_bytes) == (tmp_path / "made", "key", {"cosine": 0.5}, 9)
    assert {"torch", "transformers", "sentence-transformers", "onnx", "onnxruntime"} <= versions().keys()


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    assert make(tmp_path / "a" / "b" / "made").figures == {"cosine": 0.5}
    assert names(tmp_path / "a" / "b")[0] == "made"


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3), ModelError("refused")])
def test_a_failure_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        failing(tmp_path / "made", error)
    assert caught.value is error
    assert names(tmp_path) == []


def test_a_failure_leaves_the_earlier_artifact(tmp_path: Path) -> None:
    make(tmp_path / "made", "earlier")
    with pytest.raises(ValueError, match="broken"):
        failing(tmp_path / "made", ValueError("broken"))
    assert (Artifact.open(tmp_path / "made").folder / "model.bin").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["made"]


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    make(tmp_path / "made", "earlier")
    with writing(tmp_path / "made", "stage", "other") as draft:
        (draft.folder / "model.bin").write_text("later")
        assert draft.folder.parent == tmp_path
        assert draft.folder != tmp_path / "made"
        assert (Artifact.open(tmp_path / "made").folder / "model.bin").read_text() == "earlier"
    assert (Artifact.open(tmp_path / "made").folder / "model.bin").read_text() == "later"


def test_an_earlier_artifact_is_replaced_whole(tmp_path: Path) -> None:
    make(tmp_path / "made", "earlier")
    with writing(tmp_path / "made", "stage", "other") as draft:
        (draft.folder / "graph.onnx").write_text("later")
    assert names(tmp_path) == ["made", "made/graph.onnx", f"made/{MANIFEST}"]
    assert Artifact.open(tmp_path / "made").key == "other"


def test_a_rename_that_fails_brings_the_earlier_artifact_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "made", "earlier")
    rename = os.rename

    def refusing(source: Path, to: Path) -> None:
        if ".partial-" in source.name and to.name == "made":
            raise OSError(errno.EROFS, "Read-only file system")
        rename(source, to)

    monkeypatch.setattr(artifact.os, "rename", refusing)
    with pytest.raises(StorageError, match=r"made: may not be written \(Read-only file system\)$"):
        make(tmp_path / "made", "later")
    assert (Artifact.open(tmp_path / "made").folder / "model.bin").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["made"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    killed = (
        "import os, sys, pathlib; from compressor.artifact.folder import writing\n"
        "with writing(pathlib.Path(sys.argv[1]), 'stage', 'key') as draft:\n"
        "    (draft.folder / 'half').write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path / "made")], cwd=Path(__file__).parents[2], check=False)
    assert len(left := os.listdir(tmp_path)) == 1
    assert left[0].startswith(".made.partial-")
    (tmp_path / ".made.partial-1").mkdir()  # of a process still at work
    (tmp_path / ".other.partial-999999999").mkdir()
    make(tmp_path / "made")
    assert sorted(os.listdir(tmp_path)) == [".made.partial-1", ".other.partial-999999999", "made"]


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    make(tmp_path / "made")
    path = tmp_path / "made" / "model.bin"
    path.write_text("weightz")
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: sha256 differs from manifest.json"
    path.write_text("weight")
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: 6 bytes, manifest.json says 7"
    path.unlink()
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: named in manifest.json and not there"
    path.mkdir()
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: named in manifest.json and not there"


def test_a_link_is_no_file_of_an_artifact(tmp_path: Path) -> None:
    make(tmp_path / "made")
    path = tmp_path / "made" / "model.bin"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: a symbolic link; files of an artifact are plain"


@pytest.mark.parametrize("field", ["stage", "key", "figures", "versions", "files", "sha256"])
def test_manifests_of_others(tmp_path: Path, field: str) -> None:
    make(tmp_path)
    path = tmp_path / MANIFEST
    manifest = json.loads(path.read_text())
    wrong = f"{path}: format is not compressor-artifact/2; not an artifact of this project"
    for value in (
        manifest | {"format": "compressor-artifact/3"},
        manifest | {"format": ["compressor-artifact/2"]},
        {},
        [],
        3,
        None,
    ):
        path.write_text(json.dumps(value))
        assert fault(read_manifest, tmp_path) == fault(Artifact.open, tmp_path) == wrong
        assert not is_artifact(tmp_path)
    path.write_text(json.dumps({name: value for name, value in manifest.items() if name != field}))
    assert fault(Artifact.open, tmp_path) == f"{path}: damaged, no {field}"
    for broken in (b"", b"{", b"\xff"):
        path.write_bytes(broken)
        assert fault(Artifact.open, tmp_path).startswith(f"{path}: not readable: ")
    path.unlink()
    assert fault(Artifact.open, tmp_path) == f"{tmp_path}: no manifest.json; not an artifact of this project"


def system_error(code: int) -> OSError:
    return OSError(code, os.strerror(code), "some/file")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (system_error(errno.ENOSPC), "no space left on the device"),
        (system_error(errno.EDQUOT), "no space left on the device"),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "no space left"),
        (system_error(errno.EROFS), "may not be written (Read-only file system)"),
        (system_error(errno.EACCES), "may not be written (Permission denied)"),
        (system_error(errno.EPERM), "may not be written (Operation not permitted)"),
    ],
)
def test_a_disk_that_takes_no_more(tmp_path: Path, error: Exception, message: str) -> None:
    make(tmp_path / "made", "earlier")
    with pytest.raises(StorageError) as caught:
        failing(tmp_path / "made", error)
    assert str(caught.value).startswith(f"{tmp_path / 'made'}: {message}")
    assert caught.value.__cause__ is error
    assert os.listdir(tmp_path) == ["made"]
    assert (tmp_path / "made" / "model.bin").read_text() == "earlier"


def test_a_full_disk_that_a_library_does_not_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save says "unexpected pos 576 vs 534"."""
    error = RuntimeError("unexpected pos 576 vs 534")
    with pytest.raises(RuntimeError) as caught:
        failing(tmp_path / "a" / "made", error)
    assert caught.value is error
    monkeypatch.setattr(errors, "_free_bytes", lambda path: 4096)
    with pytest.raises(StorageError, match="made: no space left on the device$"):
        failing(tmp_path / "a" / "made", error)
    with pytest.raises(ModelError, match="^refused$"):  # what is already worded stays
        failing(tmp_path / "a" / "made", ModelError("refused"))


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Input/output error"):
        failing(tmp_path / "made", system_error(errno.EIO))


def test_json_keeps_its_order_and_is_written_in_one_step(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 1,\n  "a": [\n    1.5,\n    null\n  ]\n}\n'
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"b": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": 1, "a": [1.5, None]}
    assert os.listdir(tmp_path) == ["a.json"]


def test_keys() -> None:
    # Pinned: a key that changes makes every stage of every run again.
    assert key_of("stage", {"b": 1, "a": (1, 2)}, None) == (
        "99a37f027a43cb9e76146d1f99e8e2822a81b9a81e17b0f7a0bf30d1774a8764"
    )
    assert key_of({"b": 1, "a": 2}) == key_of({"a": 2, "b": 1})
    assert key_of((1, 2)) == key_of([1, 2])
    others: list[list[Any]] = [["a", "b"], ["b", "a"], ["ab"], [["a", "b"]], ["a", 1], ["a", "1"]]
    assert len({key_of(*parts) for parts in others}) == 6
    assert key_of(Path("a")) == key_of("a")


def test_sizes(tmp_path: Path) -> None:
    make(tmp_path / "made", "x" * 1000)
    assert size_bytes(tmp_path / "made") == 1002
    assert sha256(tmp_path / "made" / "1_Pooling" / "config.json") == sha256_of(b"{}")
    (tmp_path / "big").write_bytes(bytes(range(256)) * 8193)  # more than two blocks
    assert sha256(tmp_path / "big") == sha256_of(bytes(range(256)) * 8193)


def sha256_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_draft_starts_without_figures(tmp_path: Path) -> None:
    assert Draft(tmp_path).figures == {}
    assert Draft(tmp_path).figures is not Draft(tmp_path).figures


def test_an_artifact_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    make(tmp_path / "made")
    path = tmp_path / "made" / MANIFEST
    stated = json.loads(path.read_text())
    del stated["sha256"]
    write_json(path, stated | {"format": "compressor-artifact/1"})
    assert Artifact.open(tmp_path / "made").figures == {"cosine": 0.5}
    write_json(path, stated)
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: damaged, no sha256"


def test_a_figure_that_was_changed_is_found(tmp_path: Path) -> None:
    make(tmp_path / "made")
    path = tmp_path / "made" / MANIFEST
    text = path.read_text()
    path.write_text(text.replace("0.5", "0.7"))
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: changed: its sha256 is not that of its other fields"
    path.write_text(text.replace('"key":', '"key" :'))
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: changed: not in the form that it is written in"
    path.write_text(text.replace('"stage":', '"key": "k",\n  "stage":'))
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: not readable: key 'key' comes twice"
    assert is_artifact(tmp_path / "made") is False


def test_files_that_the_manifest_does_not_name(tmp_path: Path) -> None:
    make(tmp_path / "made")
    (tmp_path / "made" / "3_Normalize").mkdir()  # an empty folder is no file
    Artifact.open(tmp_path / "made")
    (tmp_path / "made" / "1_Pooling" / "evil.bin").write_text("")
    path = tmp_path / "made" / "1_Pooling" / "evil.bin"
    assert fault(Artifact.open, tmp_path / "made") == f"{path}: not named in manifest.json"


def test_what_a_killed_process_had_put_aside_comes_back(tmp_path: Path) -> None:
    make(tmp_path / "made", "earlier")
    (tmp_path / "made").rename(tmp_path / ".made.old-999999999")
    with pytest.raises(ValueError, match="broken"):
        failing(tmp_path / "made", ValueError("broken"))
    assert (Artifact.open(tmp_path / "made").folder / "model.bin").read_text() == "earlier"
    assert os.listdir(tmp_path) == ["made"]
    (tmp_path / ".made.old-999999999").mkdir()
    make(tmp_path / "made", "later")
    assert os.listdir(tmp_path) == ["made"]
