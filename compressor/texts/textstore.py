"""Texts on disk: one file of UTF-8, memory-mapped, with where each text begins; a hundred million fit."""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from compressor.artifact.folder import write_json
from compressor.core.cache import keeping

_TEXTS, _LENGTHS, _LABELS, _OFFSETS, _META = "texts.utf8", "lengths.u32", "labels.u16", "offsets.npy", "meta.json"
_FLUSH_BYTES = 1 << 20
_BLOCK = 4096  # texts read at a time when all are walked
_ROWS = 1 << 20  # numbers handled at a time


class TextStore(Sequence[str]):
    """Texts in a folder, read through memory maps: as cheap to open for a hundred million as for a hundred.

    ``count`` takes the first so many. A slice is a list of its texts; iteration streams.
    """

    def __init__(self, folder: Path, count: int | None = None) -> None:
        self.folder = folder
        self.meta: dict[str, Any] = json.loads((folder / _META).read_text(encoding="utf-8"))
        self._offsets: NDArray[np.uint64] = np.load(folder / _OFFSETS, mmap_mode="r", allow_pickle=False)
        total = len(self._offsets) - 1
        self._count = total if count is None else min(count, total)
        self._texts = _mapped(folder / _TEXTS, np.uint8)
        self._lengths = _mapped(folder / _LENGTHS, np.uint32)
        self._labels = _mapped(folder / _LABELS, np.uint16)
        counts = {total, int(self.meta["count"]), len(self._lengths), len(self._labels)}
        if len(counts) > 1 or len(self._texts) != int(self._offsets[-1]):
            raise ValueError(f"{folder}: its files are of different texts")

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> str | list[str]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._count)
            if step == 1:
                return [text.decode() for text in self.raw(start, stop)]
            return [self[row] for row in range(start, stop, step)]
        row = range(self._count)[index]  # IndexError and negative rows as a list has them
        return self._bytes(row, row + 1).decode()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, self._count, _BLOCK):
            yield from self[start : start + _BLOCK]

    @property
    def lengths(self) -> NDArray[np.uint32]:
        """Bytes of each text in UTF-8, uint32 [len(self)], memory-mapped."""
        return self._lengths[: self._count]

    @property
    def fingerprint(self) -> str:
        """sha256 of all the folder's texts in their order, also of those beyond ``count``."""
        return str(self.meta["fingerprint"])

    def first(self, count: int) -> "TextStore":
        """Return the first ``count`` texts, on the same files."""
        return TextStore(self.folder, min(count, self._count))

    def raw(self, start: int, stop: int) -> list[bytes]:
        """Return the texts from ``start`` up to ``stop`` as they lie on disk."""
        block = self._bytes(start, stop)
        ends = (self._offsets[start : max(start, stop) + 1] - self._offsets[start]).tolist()
        return [block[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]

    def digest(self, start: int, stop: int) -> bytes:
        """Return ``digest_of`` the texts from ``start`` up to ``stop``, without decoding them."""
        return _digest(self._lengths[start:stop], self._bytes(start, stop))

    def per_label(self, rows: slice, labels: int) -> list[int]:
        """Count the texts of each label from 0 to ``labels`` among ``rows``."""
        start, stop, _ = rows.indices(self._count)
        counts = np.zeros(labels, np.int64)
        for at in range(start, stop, _ROWS):
            counts += np.bincount(self._labels[at : min(at + _ROWS, stop)], minlength=labels)
        return [int(count) for count in counts]

    def labels(self, rows: slice) -> list[int]:
        """Return the number of the source of each text of ``rows``."""
        found: list[int] = self._labels[: self._count][rows].tolist()
        return found

    def label_digest(self) -> str:
        """Return sha256 of which source each of the folder's texts is from, also of those beyond ``count``."""
        return hashlib.sha256(self._labels.data).hexdigest()

    def labelled(self) -> Iterator[tuple[str, int]]:
        """Yield each text with the number of its source."""
        for start in range(0, self._count, _BLOCK):
            rows = slice(start, start + _BLOCK)
            yield from zip(self[rows], self.labels(rows), strict=True)

    def _bytes(self, start: int, stop: int) -> bytes:
        begin, end = int(self._offsets[start]), int(self._offsets[max(start, stop)])
        return self._texts[begin:end].tobytes()


class TextWriter:
    """Write texts into a folder, one after another, in bounded memory; on exit a TextStore can open it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        self._texts, self._lengths, self._labels = bytearray(), array("I"), array("H")
        self._digests = {_TEXTS: hashlib.sha256(), _LENGTHS: hashlib.sha256()}

    def __enter__(self) -> "TextWriter":
        self.folder.mkdir(parents=True, exist_ok=True)
        self._files = {name: (self.folder / name).open("wb") for name in (_TEXTS, _LENGTHS, _LABELS)}
        return self

    def add(self, text: bytes, label: int = 0) -> None:
        """Append one text, UTF-8; ``label`` is the number of the source it comes from."""
        self._texts += text
        self._lengths.append(len(text))
        self._labels.append(label)
        self.count += 1
        if len(self._texts) + 8 * len(self._lengths) >= _FLUSH_BYTES:
            self._flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is None:
            self._flush()
        for file in self._files.values():
            file.close()
        if error is None:
            self._write_offsets()
            parts = [self._digests[name].digest() for name in (_TEXTS, _LENGTHS)]
            fingerprint = hashlib.sha256(b"".join(parts)).hexdigest()
            write_json(self.folder / _META, {"count": self.count, "fingerprint": fingerprint})

    def _flush(self) -> None:
        kept = {_TEXTS: bytes(self._texts), _LENGTHS: self._lengths.tobytes(), _LABELS: self._labels.tobytes()}
        for name, block in kept.items():
            self._files[name].write(block)
            if name in self._digests:
                self._digests[name].update(block)
        self._texts, self._lengths, self._labels = bytearray(), array("I"), array("H")

    def _write_offsets(self) -> None:
        """Write uint64 [count + 1]: text i stands from offset i up to offset i + 1."""
        lengths, end = _mapped(self.folder / _LENGTHS, np.uint32), 0
        with (self.folder / _OFFSETS).open("wb") as file:
            header = {"descr": "<u8", "fortran_order": False, "shape": (self.count + 1,)}
            np.lib.format.write_array_header_1_0(file, header)
            file.write(np.zeros(1, "<u8").tobytes())
            for start in range(0, self.count, _ROWS):
                offsets = end + np.cumsum(lengths[start : start + _ROWS], dtype=np.uint64)
                file.write(offsets.astype("<u8").tobytes())
                end = int(offsets[-1])


def kept_store(to: Path, build: Callable[[Path], dict[str, Any]]) -> TextStore:
    """Open the store in folder ``to``; where there is none, or a damaged one, ``build`` writes it first.

    ``build`` fills the folder it is given and returns what to note in ``meta``. The folder appears in one
    rename: what is interrupted leaves nothing, and of two processes at once the first to end is kept.
    """
    store = _opened(to)
    if store is not None:
        return store
    with keeping(to, lambda: _opened(to) is not None) as draft:
        noted = build(draft)
        meta = json.loads((draft / _META).read_text(encoding="utf-8"))
        write_json(draft / _META, meta | noted)
    return TextStore(to)


def digest_of(texts: Sequence[str], start: int, stop: int) -> bytes:
    """Hash the texts from ``start`` up to ``stop`` (blake2b, 32 bytes), the same for a list as for a store."""
    if isinstance(texts, TextStore):
        return texts.digest(start, min(stop, len(texts)))
    encoded = [text.encode() for text in texts[start:stop]]
    return _digest(np.array([len(text) for text in encoded], np.uint32), b"".join(encoded))


def _digest(lengths: NDArray[np.uint32], texts: bytes) -> bytes:
    return hashlib.blake2b(lengths.astype("<u4").tobytes() + texts, digest_size=32).digest()


def _opened(folder: Path) -> TextStore | None:
    try:
        return TextStore(folder)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _mapped(path: Path, kind: type[np.generic]) -> NDArray[Any]:
    """Map a file of plain numbers; numpy maps no empty file."""
    return np.memmap(path, kind, mode="r") if path.stat().st_size else np.zeros(0, kind)
