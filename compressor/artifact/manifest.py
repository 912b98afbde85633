"""The manifest of an artifact: read as if a stranger had written it, and held against the files it names."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressor.core.errors import ArtifactError, unreadable
from compressor.core.strict_json import json_text, parse_json, read_plain

FORMAT = "compressor-artifact/2"
MANIFEST = "manifest.json"
KEPT = "artifact.json"
"""The artifact's own manifest, its recipe and figures, in a view that is run as the artifact is."""
VIEW = "pack/hub"
"""The stage of a view for the hub."""
PACKED = "pack/"
"""Begins the stage of every view."""
_UNSEALED = "compressor-artifact/1"  # of earlier releases: without a hash of its own
_MOST_MANIFEST_BYTES = 16 << 20
_MOST_FILES = 10_000
_MOST_BYTES = 16 << 30
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DROPPED = frozenset({".DS_Store", ".directory", "Thumbs.db", "desktop.ini", ".git"})  # a submodule's .git is a file
# What git and `hf download` keep of a folder.
_GIT = ".git/"
_DOWNLOADED = re.compile(
    r"\.cache/huggingface/"
    r"(\.gitignore|CACHEDIR\.TAG|(down|up)load/.+\.(metadata|lock|incomplete)|trees/[0-9a-f]{40}\.json)"
)
# What a loader may read wherever it lies: some look for graphs in all folders, hidden ones too.
_LOADED = (
    ".bin", ".ckpt", ".data", ".dll", ".dylib", ".gguf", ".h5", ".jinja", ".joblib", ".json", ".keras", ".model",
    ".msgpack", ".npy", ".npz", ".onnx", ".onnx_data", ".ort", ".pb", ".pickle", ".pkl", ".pt", ".pth", ".py", ".pyc",
    ".pyd", ".safetensors", ".so", ".spm", ".toml", ".txt", ".xml", ".yaml", ".yml", ".zip",
)  # fmt: skip


def manifest_text(manifest: Mapping[str, Any]) -> str:
    """Return the one form in which a manifest is written."""
    return json_text(manifest) + "\n"


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``manifest`` with ``sha256`` as its last field: the hash of its text without that field."""
    return {**manifest, "sha256": hashlib.sha256(manifest_text(manifest).encode()).hexdigest()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return ``folder``'s manifest; ArtifactError if it has none or another project's. ``check_seal`` looks closer."""
    return _parsed(folder, _content(folder))


def own_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the artifact in ``folder``: a packed view that is run as it keeps it beside its own."""
    manifest = read_manifest(folder)
    kept = manifest["stage"].startswith(PACKED) and KEPT in manifest["files"]
    return _parsed(folder, _content(folder, KEPT), KEPT) if kept else manifest


def recipe_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recipe that a manifest states; nothing where it states none."""
    config = manifest.get("config")
    recipe = config.get("recipe") if isinstance(config, dict) else None
    return recipe if isinstance(recipe, dict) else {}


def handed_on(folder: Path) -> dict[str, Any]:
    """Return what is stated of an artifact that is made of the one in ``folder``: its recipe, but for its int8."""
    if not (folder / MANIFEST).is_file():
        return {}
    recipe = {name: part for name, part in recipe_of(own_manifest(folder)).items() if name != "int8"}
    return {"recipe": recipe} if recipe else {}


def checked_manifest(folder: Path) -> dict[str, Any]:
    """Return ``folder``'s manifest; ArtifactError also where one byte of it is not as it was written."""
    path, content = folder / MANIFEST, _content(folder)
    manifest = _parsed(folder, content)
    # One form only: what a reader passes over (blanks, the case of an escape, the last digit of a float) is found too.
    if content != manifest_text(manifest).encode():
        raise ArtifactError(f"{path}: changed: not in the form that it is written in")
    if manifest["format"] == FORMAT:
        rest = {name: value for name, value in manifest.items() if name != "sha256"}
        if manifest != sealed(rest):
            raise ArtifactError(f"{path}: changed: its sha256 is not that of its other fields")
    for name, entry in manifest["files"].items():
        _check_entry(path, name, entry)
    if (total := sum(entry["size"] for entry in manifest["files"].values())) > _MOST_BYTES:
        raise ArtifactError(f"{path}: names {total} bytes of files; at most {_MOST_BYTES} are read")
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Compare every file with a checked manifest; ArtifactError on the first difference, on links and on others.

    Returns the strays: files that a system, git or a downloader left there, and no loader reads.
    """
    files, found = manifest["files"], dict(_walk(folder))
    for name, entry in files.items():
        path = folder / name
        if name not in found:
            raise ArtifactError(f"{path}: named in {MANIFEST} and not there")
        if found[name].st_size != entry["size"]:
            raise ArtifactError(f"{path}: {found[name].st_size} bytes, {MANIFEST} says {entry['size']}")
    unlisted = sorted(found.keys() - files.keys() - {MANIFEST})
    if extra := [name for name in unlisted if not is_stray(name)]:
        raise ArtifactError(f"{folder / _shown(extra[0])}: not named in {MANIFEST}")
    for name, entry in files.items():
        if _hash(folder / name) != entry["sha256"]:
            raise ArtifactError(f"{folder / name}: sha256 differs from {MANIFEST}")
    return tuple(unlisted)


def is_stray(name: str) -> bool:
    """Tell whether a file that no manifest names may lie in an artifact all the same: nobody meant it, or reads it."""
    _, _, last = name.rpartition("/")
    in_git = name.startswith(_GIT) and not last.lower().endswith(_LOADED)
    return last in _DROPPED or in_git or _DOWNLOADED.fullmatch(name) is not None


def strays(folder: Path) -> list[str]:
    """Return the names of all strays below ``folder``."""
    return [name for name, _ in _walk(folder) if is_stray(name)]


def meant(folder: Path) -> list[str]:
    """Return the names of all files below ``folder`` but strays; ArtifactError for links, and for what is no file."""
    return [name for name, _ in _walk(folder) if not is_stray(name)]


def check_links(folder: Path) -> None:
    """Refuse files with a second name: ArtifactError.

    What was checked under one name can be changed under the other, from outside the folder.
    """
    for name, status in _walk(folder):
        if (names := status.st_nlink) > 1 and not is_stray(name):
            raise ArtifactError(f"{folder / name}: a hard link, {names} names of one file; copy the folder (cp -r)")


def sha256(path: Path) -> str:
    """Return the file's SHA-256 in hex, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise ArtifactError(unreadable(path, error)) from error


def _content(folder: Path, name: str = MANIFEST) -> bytes:
    path = folder / name
    try:
        if path.is_symlink():
            raise _link(path, path)
        return read_plain(path, _MOST_MANIFEST_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactError(f"{folder}: no {name}; not an artifact of this project") from error
    except OSError as error:
        raise ArtifactError(unreadable(path, error)) from error
    except ValueError as error:
        raise ArtifactError(f"{path}: not readable: {error}") from error


def _parsed(folder: Path, content: bytes, name: str = MANIFEST) -> dict[str, Any]:
    path = folder / name
    try:
        manifest = parse_json(content)
    except ValueError as error:
        raise ArtifactError(f"{path}: not readable: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("format") not in (FORMAT, _UNSEALED):
        raise ArtifactError(f"{path}: format is not {FORMAT}; not an artifact of this project")
    kinds: dict[str, type] = {"stage": str, "key": str, "figures": dict, "versions": dict, "files": dict}
    if manifest["format"] == FORMAT:
        kinds["sha256"] = str
    for name, kind in kinds.items():
        if name not in manifest:
            raise ArtifactError(f"{path}: damaged, no {name}")
        if not isinstance(manifest[name], kind):
            raise ArtifactError(f"{path}: damaged, {name} is no {'text' if kind is str else 'table'}")
    if len(manifest["files"]) > _MOST_FILES:
        raise ArtifactError(f"{path}: names {len(manifest['files'])} files; at most {_MOST_FILES} are read")
    return manifest


def _check_entry(path: Path, name: str, entry: Any) -> None:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or set('\\:*?"<>|') & set(name) or not name.isprintable():
        raise ArtifactError(f"{path}: files: {_shown(name)} is no path inside the folder")
    if name == MANIFEST:
        raise ArtifactError(f"{path}: files: names itself")
    if not isinstance(entry, dict) or entry.keys() != {"sha256", "size"}:
        raise ArtifactError(f"{path}: files: {name}: must have sha256 and size, and nothing else")
    size, digest = entry["size"], entry["sha256"]
    if type(size) is not int or size < 0:
        raise ArtifactError(f"{path}: files: {name}: size = {size!a:.40}: must be a count of bytes")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        raise ArtifactError(f"{path}: files: {name}: sha256 = {digest!a:.80}: must be 64 hex digits")


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the path and status of every file; ArtifactError for links, for what is no file, and for too many."""
    waiting, seen = [""], 0
    while waiting:
        inner = waiting.pop()
        try:
            # An entry's own status counts no links on Windows.
            entries = [(entry, os.lstat(entry.path)) for entry in os.scandir(folder / inner)]
        except OSError as error:
            raise ArtifactError(unreadable(folder / inner, error)) from error
        for entry, status in sorted(entries, key=lambda pair: pair[0].name):
            name = inner + entry.name
            if stat.S_ISLNK(status.st_mode):
                raise _link(folder / _shown(name), Path(entry.path))
            if stat.S_ISDIR(status.st_mode):
                waiting.append(f"{name}/")
            elif stat.S_ISREG(status.st_mode):
                yield name, status
            else:
                raise ArtifactError(f"{folder / _shown(name)}: neither file nor folder")
            seen += 1
            if seen > 2 * _MOST_FILES:
                raise ArtifactError(f"{folder}: holds more than {2 * _MOST_FILES} files and folders")


def _link(file: Path, path: Path) -> ArtifactError:
    """Return the error for a symbolic link, which the hub's cache has for every file."""
    if Path(os.readlink(path)).parent.name == "blobs":
        return ArtifactError(
            f"{file}: a link into the hub's cache; for plain files hf download REPOSITORY --local-dir FOLDER, or cp -rL"
        )
    return ArtifactError(f"{file}: a symbolic link; files of an artifact are plain")


def _shown(name: str) -> str:
    """Return a name that any terminal can print, in one line."""
    return name if name.isprintable() else ascii(name)
