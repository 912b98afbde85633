"""What can be wrong with an artifact's folder: accidents, and what somebody did on purpose, manifest and all."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

from compressor.artifact.folder import MANIFEST
from compressor.artifact.manifest import manifest_text, sealed
from compressor.untrusted.inspector import described

Random = random.Random
GRAPH = "onnx/model.onnx"


def files(folder: Path) -> list[str]:
    """Return the names of all files, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))


def reseal(folder: Path, **changes: Any) -> None:
    """Write a manifest that is right for the folder as it is, as whoever made the damage on purpose would."""
    facts = {name: described(folder / name) for name in files(folder) if name != MANIFEST}
    listed = {name: {"sha256": one["sha256"], "size": one["size"]} for name, one in facts.items()}
    stated = {name: value for name, value in manifest(folder).items() if name != "sha256"}
    (folder / MANIFEST).write_text(manifest_text(sealed(stated | {"files": listed} | changes)), encoding="utf-8")


def flip(folder: Path, source: Random) -> None:
    """Flip one bit of one file, the manifest as often as any."""
    path = folder / source.choice([name for name in files(folder) if (folder / name).stat().st_size])
    data = bytearray(path.read_bytes())
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    path.write_bytes(data)


def flip_manifest(folder: Path, source: Random) -> None:
    path = folder / MANIFEST
    data = bytearray(path.read_bytes())
    data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    path.write_bytes(data)


def truncate(folder: Path, source: Random) -> None:
    path = folder / source.choice([name for name in files(folder) if (folder / name).stat().st_size])
    os.truncate(path, source.randrange(path.stat().st_size))


def lengthen(folder: Path, source: Random) -> None:
    with (folder / source.choice(files(folder))).open("ab") as file:
        file.write(source.randbytes(source.randint(1, 20)))


def swap(folder: Path, source: Random) -> None:
    contents = {(folder / name).read_bytes(): name for name in files(folder) if name != MANIFEST}
    (first, a), (second, b) = source.sample(sorted(contents.items()), 2)
    (folder / a).write_bytes(second)
    (folder / b).write_bytes(first)


def remove(folder: Path, source: Random) -> None:
    (folder / source.choice(files(folder))).unlink()


def extra(folder: Path, source: Random) -> None:
    name = source.choice(["model.onnx.data", "onnx/weights.bin", ".hidden", "3_Normalize/x.json", "code.py", "a/b/c"])
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(source.randbytes(source.randint(0, 9)))


def link(folder: Path, source: Random) -> None:
    """Replace a file, or a folder, by a symbolic link to the same."""
    name = source.choice([*files(folder), "onnx", "1_Pooling"])
    shutil.move(folder / name, moved := folder.parent / f"{folder.name}-moved")
    (folder / name).symlink_to(moved)


def hard_link(folder: Path, source: Random) -> None:
    name = source.choice(files(folder))
    os.link(folder / name, folder.parent / f"{folder.name}-linked")


def odd(folder: Path, source: Random) -> None:
    name = source.choice(files(folder))
    (folder / name).unlink()
    os.mkfifo(folder / name) if source.random() < 0.7 else (folder / name).mkdir()


def bad_manifest(folder: Path, source: Random) -> None:
    """Write a manifest that is wrong in itself, its hash right where there can be one."""
    stated = {name: value for name, value in manifest(folder).items() if name != "sha256"}
    listed = dict(stated["files"])
    entry = dict(listed[GRAPH])
    changed: list[Any] = [
        {"files": listed | {name: {"sha256": "0" * 64, "size": 0}}}
        for name in ("../x", "/etc/passwd", "a\\b", "a/./b", "", "C:x", "a\nb", "\ud800", "x/", MANIFEST)
    ]
    changed += [
        {"files": listed | {GRAPH: value}}
        for value in (
            entry | {"size": -1},
            entry | {"size": str(entry["size"])},
            entry | {"size": float(entry["size"])},
            entry | {"size": True},
            entry | {"size": None},
            entry | {"sha256": entry["sha256"].upper()},
            entry | {"sha256": None},
            entry | {"sha256": entry["sha256"][:-1]},
            entry | {"url": "x"},
            [entry],
            None,
            entry | {"size": 1 << 70},
        )
    ]
    changed += [{"files": list(listed)}, {"figures": []}, {"key": 3}, {"format": "compressor-artifact/1 "}]
    text = manifest_text(sealed(stated | source.choice(changed)))
    deep = "[" * 100_000 + "]" * 100_000
    first = text.index('"stage"')
    texts = [
        text,
        text,
        text,
        text[:first] + '"key": "k",\n  ' + text[first:],
        text[:first] + f'"deep": {deep},\n  ' + text[first:],
        text[:first] + f'"long": "{"x" * (17 << 20)}",\n  ' + text[first:],
        text[:first] + f'"digits": {"9" * 5000},\n  ' + text[first:],
        deep,
        "",
        "null",
    ]
    chosen = source.choice(texts).encode("utf-8", "surrogatepass")
    marked = b"\xff\xfe" + chosen
    (folder / MANIFEST).write_bytes(source.choice([chosen, chosen, marked, b"\xef\xbb\xbf" + chosen]))
