"""Artifact folders: written whole or not at all, each with a manifest that names, sizes and hashes its files."""

import errno
import glob
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from compressor.artifact.manifest import FORMAT, MANIFEST, check_files, checked_manifest, read_manifest, sealed, sha256
from compressor.core.errors import ArtifactError, storage
from compressor.core.files import partial, replacing, this_machine
from compressor.core.strict_json import json_text

__all__ = [
    "FORMAT", "MANIFEST", "Artifact", "Draft", "claim", "is_artifact", "key_of", "read_manifest", "sha256",
    "size_bytes", "versions", "whole_bytes", "write_json", "writing",
]  # fmt: skip
_PACKAGES = ("torch", "transformers", "sentence-transformers", "onnx", "onnxruntime", "optimum", "compressor")
_BUILDS = {"onnxruntime": ("gpu", "openvino", "qnn")}  # the same library, in packages of other names
_own = set[str]()  # names of what this process writes, and has put aside


@dataclass(frozen=True)
class Artifact:
    """A finished folder and what its manifest says of it."""

    folder: Path
    manifest: Mapping[str, Any]
    strays: tuple[str, ...] = ()
    """Files that the manifest does not name, and no loader reads."""

    @property
    def key(self) -> str:
        """Hash of everything the artifact was made from."""
        return str(self.manifest["key"])

    @property
    def figures(self) -> dict[str, Any]:
        return dict(self.manifest["figures"])

    @property
    def size_bytes(self) -> int:
        return size_bytes(self.folder)

    @classmethod
    def open(cls, folder: Path) -> "Artifact":
        """Read a folder's manifest and compare every file with it before anything else is read.

        ArtifactError on the first difference: another byte, a file too many, a link, a manifest that was changed.
        """
        manifest = checked_manifest(folder)
        return cls(folder, manifest, check_files(folder, manifest))


def is_artifact(folder: Path) -> bool:
    """Whether ``folder`` carries a manifest of this project."""
    try:
        return bool(read_manifest(folder))
    except ArtifactError:
        return False


@contextmanager
def writing(to: Path, stage: str, key: str, config: Any = None) -> Iterator["Draft"]:
    """Give a draft to write into; on success it becomes ``to`` in one rename, on failure nothing is left.

    ``to`` may be absent, empty, or an earlier artifact, which is then replaced; anything else is an
    ArtifactError before work starts. A full or read-only disk is a StorageError.
    """
    with storage(to):
        claim(to)
        _recover(to)
        to.parent.mkdir(parents=True, exist_ok=True)
        whole = partial(to)
        _own.add(whole.name)
        whole.mkdir()
        allowed = stat.S_IMODE(whole.stat().st_mode)  # what the umask, or the parent's own rules, let others do
    draft = Draft(whole)
    try:
        with storage(to):
            yield draft
            manifest = {
                "format": FORMAT,
                "stage": stage,
                "key": key,
                "config": config,
                "figures": draft.figures,
                "versions": versions(),
                "files": _listing(whole),
            }
            write_json(whole / MANIFEST, sealed(manifest))
            _share(whole, allowed)
            _swap(whole, to)
    finally:
        shutil.rmtree(whole, ignore_errors=True)
        _own.discard(whole.name)


@dataclass(frozen=True)
class Draft:
    """A folder being written, and the figures that go into its manifest."""

    folder: Path
    figures: dict[str, Any] = field(default_factory=dict)


def claim(to: Path) -> None:
    """Refuse an output folder that has no name, or holds something that is not ours to replace."""
    if to.name in ("", ".."):
        raise ArtifactError(f"{to}: give the folder by its name")
    try:
        mode = to.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(mode):
        raise ArtifactError(f"{to}: exists and is no folder")
    if _is_foreign(to):
        raise ArtifactError(f"{to}: holds something else; give an empty or a new folder")


def _is_foreign(folder: Path) -> bool:
    """Whether a folder holds something that is no artifact; one that another process replaces is looked at again."""
    while True:
        try:
            seen = folder.stat().st_ino
            foreign = any(folder.iterdir()) and not is_artifact(folder)
            if not foreign or folder.stat().st_ino == seen:
                return foreign
        except FileNotFoundError:
            return False


def write_json(path: Path, value: Any) -> None:
    """Write JSON with a final newline, in one rename; CompressorError for a figure that is NaN or infinite."""
    text = json_text(value) + "\n"
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def noted_seconds(path: Path) -> float:
    """Return the ``seconds`` noted in a JSON file, 0 where there are none."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0


def key_of(*parts: Any) -> str:
    """Hash any JSON-able parts into one hex key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def size_bytes(folder: Path) -> int:
    """Sum the sizes of all files below ``folder``, its manifest left out."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)


def whole_bytes(folder: Path) -> int:
    """Sum the sizes of all files of an artifact, its manifest among them: what is handed out."""
    return size_bytes(folder) + (folder / MANIFEST).stat().st_size


def versions() -> dict[str, str]:
    """Return the versions of the packages that shape an artifact."""
    found = {}
    for name in _PACKAGES:
        for package in (name, *(f"{name}-{end}" for end in _BUILDS.get(name, ()))):
            try:
                found[name] = version(package)
                break
            except PackageNotFoundError:
                continue
    return found


def _recover(to: Path) -> None:
    """Remove what a killed process left half-written, and bring back what it had put aside."""
    for left in to.parent.glob(f".{glob.escape(to.name)}.*-*"):
        kind, _, owner = left.name.removeprefix(f".{to.name}.").partition("-")
        if kind not in ("partial", "old") or not owner.rpartition("-")[2].isdigit() or _in_use(left):
            continue
        if kind == "old" and not to.exists():
            os.rename(left, to)
        else:
            shutil.rmtree(left, ignore_errors=True)


def _in_use(left: Path) -> bool:
    """Tell whether another thread or process may be at work in a draft: one of this process is in ``_own``.

    Any other of its number is what a container that had the same number left before.
    """
    from compressor.core.cache import may_be_in_use  # here: those who only read artifacts need not wait for psutil

    if left.name in _own:
        return True
    before = left.name.endswith((f"{this_machine()}-{os.getpid()}", f".partial-{os.getpid()}", f".old-{os.getpid()}"))
    return not before and may_be_in_use(left)


def _listing(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): {"sha256": sha256(p), "size": p.stat().st_size} for p in files}


def _share(folder: Path, allowed: int) -> None:
    """Let others read what they could read of a plain new folder of mode ``allowed``; nobody runs a file of it.

    safetensors and temporary files are their writer's alone, and copies have the modes of what they were copied from.
    """
    for path in (folder, *folder.rglob("*")):
        path.chmod(allowed if path.is_dir() else allowed & 0o666)


def _swap(whole: Path, to: Path) -> None:
    """Put ``whole`` where ``to`` is; the old folder goes only once the new one stands."""
    old = partial(to, "old")
    _own.add(old.name)
    try:
        if to.exists():
            os.rename(to, old)
        os.rename(whole, to)
    except OSError as error:
        if old.exists() and not to.exists():
            os.rename(old, to)
        if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise ArtifactError(f"{to}: another process wrote it at the same time; run the command again") from error
        raise
    finally:
        if to.exists():
            shutil.rmtree(old, ignore_errors=True)
        _own.discard(old.name)
