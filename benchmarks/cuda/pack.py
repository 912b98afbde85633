"""Folders as parts that a transfer can carry: what several files hold is in them once, and all has its sha256.

A student holds its teacher's vocabulary, and each form of a graph the same weights: two thirds of the bytes are
another file's. Blocks end where their content says so (a hash of its last bytes), wherever in a file they stand.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from compressor.artifact.folder import sha256, write_json
from compressor.core.errors import ArtifactError, storage
from compressor.core.files import partial
from compressor.core.strict_json import read_json

INDEX = "index.json"
PART_BYTES = 56 << 20
"""Of a part: with a copy of this repository it stays below the 64 MiB that one transfer carries."""
_FORMAT = "compressor-parts/1"
_MIXER, _END = np.uint32(2654435761), 1  # blocks of 64 KiB on average: one in 2^16 hashes is an end
_READ, _LEAST, _MOST = 4 << 20, 4 << 10, 4 << 20


@dataclass(frozen=True)
class Part:
    """One file to carry."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Packed:
    """One file of the folder: where its bytes stand in all parts in a row."""

    size: int
    sha256: str
    spans: list[tuple[int, int]]
    """Offset and size of each run of bytes."""


@dataclass(frozen=True)
class Index:
    """What the parts hold."""

    parts: list[Part]
    files: dict[str, Packed]
    key: str
    """Hash of all that the folder was made from."""

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes; the parts' is smaller where files share content."""
        return sum(file.size for file in self.files.values())

    @property
    def carried_bytes(self) -> int:
        return sum(part.size for part in self.parts)

    @classmethod
    def read(cls, folder: Path) -> "Index":
        """Read the index beside the parts; ArtifactError where there is none, or not a whole one."""
        path = folder / INDEX
        try:
            stated: Any = read_json(path)
            if stated["format"] != _FORMAT:
                raise ValueError(f"format = {stated['format']!a:.40}: must be {_FORMAT}")
            files = {_inside(name): _packed(file) for name, file in stated["files"].items()}
            return cls([Part(**part) for part in stated["parts"]], files, stated["key"])
        except FileNotFoundError as error:
            raise ArtifactError(f"{path}: not there; python -m benchmarks.cuda prepare writes it") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path}: not an index of parts: {error}") from error


def pack(folder: Path, to: Path, key: str, part_bytes: int = PART_BYTES) -> Index:
    """Write all files below ``folder`` into ``to`` as parts of at most ``part_bytes``, and their index.

    An earlier pack there is replaced; ArtifactError for a folder that holds anything else.
    """
    _require_own(to)
    draft = partial(to)
    with storage(to):
        draft.mkdir(parents=True)
        try:
            writer, known = _Writer(draft, part_bytes), dict[bytes, tuple[int, int]]()
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): _add(path, writer, known) for path in paths}
            index = Index(writer.close(), files, key)
            write_json(draft / INDEX, {"format": _FORMAT, **asdict(index)})
            shutil.rmtree(to, ignore_errors=True)
            os.rename(draft, to)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return index


def unpack(parts: Path, to: Path) -> Index:
    """Check every part's sha256, and write the files that they hold into ``to``, each checked, too.

    ArtifactError names the first part that is missing or damaged. What is there already is left as it is.
    """
    index = Index.read(parts)
    if (to / INDEX).is_file() and sha256(to / INDEX) == sha256(parts / INDEX):
        return index
    _require_own(to)
    for part in index.parts:
        _check(parts / part.name, part)
    draft = partial(to)
    with storage(to):
        try:
            for name, file in index.files.items():
                _write(draft / name, file, [parts / part.name for part in index.parts])
            shutil.copy(parts / INDEX, draft / INDEX)
            shutil.rmtree(to, ignore_errors=True)
            os.rename(draft, to)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return index


def transfers(parts: Sequence[Part], most_bytes: int = PART_BYTES, most_files: int = 8) -> list[list[str]]:
    """Return which parts go together, the index with the last of them, so that no transfer is above the bounds."""
    found: list[list[Part]] = [[]]
    for part in parts:
        together = [*found[-1], part]
        if found[-1] and (sum(one.size for one in together) > most_bytes or len(together) >= most_files):
            found.append([part])
        else:
            found[-1] = together
    names = [[part.name for part in group] for group in found]
    names[-1].append(INDEX)
    return names


class _Writer:
    """Parts in a row, as one stream of bytes."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self._folder, self._most = folder, part_bytes
        self._parts: list[Part] = []
        self._part, self.size = bytearray(), 0

    def write(self, block: bytes) -> int:
        """Write a block and return where it begins."""
        begun, self.size = self.size, self.size + len(block)
        self._part += block
        while len(self._part) >= self._most:
            self._end(self._most)
        return begun

    def close(self) -> list[Part]:
        if self._part:
            self._end(len(self._part))
        return self._parts

    def _end(self, size: int) -> None:
        content = bytes(self._part[:size])
        del self._part[:size]
        name = f"part-{len(self._parts):03d}"
        (self._folder / name).write_bytes(content)
        self._parts.append(Part(name, size, hashlib.sha256(content).hexdigest()))


def _add(path: Path, writer: _Writer, known: dict[bytes, tuple[int, int]]) -> Packed:
    """Write what of a file is not known yet, and return where all of it stands."""
    whole, spans, size = hashlib.sha256(), list[tuple[int, int]](), 0
    for block in _blocks(path):
        whole.update(block)
        size += len(block)
        digest = hashlib.sha256(block).digest()
        if digest not in known:
            known[digest] = (writer.write(block), len(block))
        offset, length = known[digest]
        if spans and sum(spans[-1]) == offset:
            spans[-1] = (spans[-1][0], spans[-1][1] + length)
        else:
            spans.append((offset, length))
    return Packed(size, whole.hexdigest(), spans)


def _blocks(path: Path) -> Iterator[bytes]:
    """Cut a file where its content says so."""
    left = b""
    with path.open("rb") as file:
        while read := file.read(_READ):
            left += read
            start = 0
            for end in _ends(left):
                if end - start >= _LEAST:
                    yield left[start:end]
                    start = end
            left = left[start:]
            if len(left) >= _MOST:  # nothing in it says where
                yield left
                left = b""
    if left:
        yield left


def _ends(content: bytes) -> list[int]:
    """Return the places behind which a block may end: by the four bytes before each, and by nothing else."""
    if len(content) < 4:
        return []
    values = np.frombuffer(content, np.uint8).astype(np.uint32)
    last = values[:-3] | values[1:-2] << 8 | values[2:-1] << 16 | values[3:] << 24
    return (np.flatnonzero((last * _MIXER) >> 16 == _END) + 4).tolist()


def _write(path: Path, file: Packed, parts: Sequence[Path]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    with path.open("wb") as to:
        for block in _read(file.spans, parts):
            whole.update(block)
            to.write(block)
    if whole.hexdigest() != file.sha256:
        raise ArtifactError(f"{path.name}: sha256 differs from {INDEX}, though its parts' do not; prepare it again")


def _read(spans: Sequence[tuple[int, int]], parts: Sequence[Path]) -> Iterator[bytes]:
    sizes = [path.stat().st_size for path in parts]
    starts = [sum(sizes[:number]) for number in range(len(parts))]
    for offset, size in spans:
        for path, start, held in zip(parts, starts, sizes, strict=True):
            begin, end = max(offset, start), min(offset + size, start + held)
            if begin < end:
                with path.open("rb") as file:
                    file.seek(begin - start)
                    yield file.read(end - begin)


def _check(path: Path, part: Part) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path}: not there; carry it to this machine")
    if path.stat().st_size != part.size:
        raise ArtifactError(f"{path}: {path.stat().st_size} bytes, {INDEX} says {part.size}; carry it again")
    if sha256(path) != part.sha256:
        raise ArtifactError(f"{path}: sha256 differs from {INDEX}; carry it again")


def _require_own(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).is_file():
        raise ArtifactError(f"{folder}: holds something else; give a new folder")


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name!a:.80}: outside the folder")
    return name


def _packed(stated: Mapping[str, Any]) -> Packed:
    return Packed(stated["size"], stated["sha256"], [(offset, size) for offset, size in stated["spans"]])
