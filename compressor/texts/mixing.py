"""Clean, deduplicate, shuffle and mix texts in bounded memory: a sort on disk by the texts' own hashes.

A text's rank is a keyed hash of it without case and punctuation. Texts are spread over files by the leading bits of
their ranks, and each file is sorted in memory: texts that are alike meet and one of them stays, so that none is trained
on while its like is measured on; and the files in their order are one random permutation that texts added later do not
reshuffle. Memory is bounded by the two sizes below, however many the texts.
"""

import hashlib
import re
import shutil
import string
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.core.errors import TextError
from compressor.texts.reading import Reading
from compressor.texts.textstore import TextStore, TextWriter

BUCKET_BYTES = 1 << 26
"""What is sorted in memory at a time, about; a file of twice as much is spread once more."""
PENDING_BYTES = 1 << 24
"""What is gathered in memory before it is spread over the files."""

_RECORD_BYTES = 64  # what a text costs in memory beside its bytes, about
_SPREAD_BITS = 4  # a file too long is spread over 2 ** 4
_MOST_BITS = 10
_RANK_BITS = 64
_WALK = 1 << 16
_BLOCK = 256  # texts of a source read at a time when sources are mixed
_RECORD = np.dtype([("rank", "<u8"), ("length", "<u4"), ("label", "<u2")])
_CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]+")
"""Control characters that are no whitespace, byte order marks, and halves of surrogate pairs."""
_WORD = re.compile(r"[^\W_]")
_ASCII_MARKS = (string.punctuation + string.whitespace).encode()


def mix(readings: Sequence[Reading], weights: Sequence[float] | None, seed: int, folder: Path) -> dict[str, Any]:
    """Write the distinct texts of all sources into ``folder`` as one TextStore; return what to note of it.

    Without weights, all texts in one random order. With weights, each source's texts in random order,
    taken in turn by ``turns`` until a source is used up. A text of several sources counts for the first. Texts that
    are ``folded`` alike are one text.
    Raises TextError for a source that has nothing to mix in.
    """
    dropped = {"empty": 0, "wordless": 0, "duplicate": 0}
    if weights is None:
        _shuffle(readings, dropped, seed, folder, lambda label: folder)
        return {"dropped": dropped}
    pools = [folder / f"source-{i}" for i in range(len(readings))]
    _shuffle(readings, dropped, seed, folder, pools.__getitem__)
    stores = [TextStore(pool) for pool in pools]
    for reading, store in zip(readings, stores, strict=True):
        if not len(store):
            raise TextError(f"{reading.name}: no text of its own to mix in")
    _interleave(stores, weights, folder)
    dropped["surplus"] = sum(map(len, stores)) - len(TextStore(folder))
    for pool in pools:
        shutil.rmtree(pool)
    return {"dropped": dropped}


def clean(text: str) -> str:
    """Remove control characters and collapse whitespace."""
    return " ".join(_CONTROL.sub("", text).split())


def folded(text: bytes) -> bytes:
    """Return a text, UTF-8, without what does not make it another text: case, punctuation, blanks, Unicode's forms.

    Empty for a text that has nothing else.
    """
    if text.isascii():
        return text.lower().translate(None, _ASCII_MARKS)
    return _marks().sub("", unicodedata.normalize("NFKC", text.decode()).casefold()).encode()


@cache
def _marks() -> re.Pattern[str]:
    """Return what ``folded`` leaves out: Unicode's punctuation, modifier symbols and blanks, and ASCII's marks."""
    marks = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c)[0] in "PZ"]
    marks += [c for c in map(chr, range(1 << 16)) if unicodedata.category(c) == "Sk"]
    return re.compile(f"[{re.escape(''.join(marks) + _ASCII_MARKS.decode())}]+")


def turns(weights: Sequence[float], sizes: Sequence[int]) -> Iterator[int]:
    """Yield whose turn it is, a source's number, until the source whose turn it is has no text left.

    Always the one furthest behind its share: after n turns, each has had its share of n but for less than
    one turn where there are two sources.
    """
    shares = [weight / sum(weights) for weight in weights]
    taken = [0] * len(shares)
    for turn in range(1, sum(sizes) + 1):
        source = max(range(len(shares)), key=lambda i: shares[i] * turn - taken[i])
        if taken[source] == sizes[source]:
            return
        taken[source] += 1
        yield source


class Buckets:
    """Texts spread over ``2 ** bits`` files of ``folder`` by the bits of their rank after the first ``skip``.

    A text repeated while it waits in memory is dropped at once.
    """

    def __init__(self, folder: Path, seed: int, bits: int, skip: int = 0) -> None:
        self.folder, self.seed, self.bits, self.skip = folder, seed, bits, skip
        self._pending: dict[bytes, int] = {}
        self._size = 0
        folder.mkdir()

    def add(self, text: bytes, label: int) -> None:
        """Take a text of source ``label``."""
        if text in self._pending:
            return
        self._pending[text] = label
        self._size += len(text) + _RECORD_BYTES
        if self._size >= PENDING_BYTES:
            self.spill()

    def spill(self) -> None:
        """Append what waits to the files."""
        texts = list(self._pending)
        records = np.zeros(len(texts), _RECORD)
        records["rank"] = _ranks(texts, self.seed)
        records["length"] = [len(text) for text in texts]
        records["label"] = list(self._pending.values())
        self._pending, self._size = {}, 0
        buckets = (records["rank"] << np.uint64(self.skip)) >> np.uint64(_RANK_BITS - self.bits)
        order = np.argsort(buckets, kind="stable")
        ends = np.searchsorted(buckets[order], np.arange(1 << self.bits), side="right")
        for bucket, rows in enumerate(np.split(order, ends[:-1])):
            if len(rows):
                with (self.folder / f"{bucket}.records").open("ab") as file:
                    file.write(records[rows].tobytes())
                with (self.folder / f"{bucket}.texts").open("ab") as file:
                    file.write(b"".join([texts[row] for row in rows.tolist()]))

    def sorted(self) -> Iterator[tuple[bytes, int]]:
        """Yield the distinct texts by rank, each with the first of its sources; the files are used up."""
        self.spill()
        for bucket in range(1 << self.bits):
            records, texts = (self.folder / f"{bucket}.{kind}" for kind in ("records", "texts"))
            if not records.exists():
                continue
            size = texts.stat().st_size + records.stat().st_size // _RECORD.itemsize * _RECORD_BYTES
            used = self.skip + self.bits
            if size > 2 * BUCKET_BYTES and used + _SPREAD_BITS <= _RANK_BITS:
                yield from self._spread_again(records, texts, used)
            else:
                yield from _sorted_file(records, texts)
            records.unlink()
            texts.unlink()
        self.folder.rmdir()

    def _spread_again(self, records: Path, texts: Path, skip: int) -> Iterator[tuple[bytes, int]]:
        inner = Buckets(records.with_suffix(".buckets"), self.seed, _SPREAD_BITS, skip)
        with records.open("rb") as heads, texts.open("rb") as bodies:
            while block := heads.read(_RECORD.itemsize * _WALK):
                rows = np.frombuffer(block, _RECORD)
                for length, label in zip(rows["length"].tolist(), rows["label"].tolist(), strict=True):
                    inner.add(bodies.read(length), label)
        yield from inner.sorted()


def _shuffle(
    readings: Sequence[Reading], dropped: dict[str, int], seed: int, folder: Path, pool: Callable[[int], Path]
) -> None:
    """Write the texts by rank, those of source i into ``pool(i)``, and count what is dropped."""
    buckets = Buckets(folder / "buckets", seed, _bits(readings))
    taken = 0
    for label, reading in enumerate(readings):
        for text in _cleaned(reading.texts(), dropped):
            buckets.add(text, label)
            taken += 1
    with ExitStack() as stack:
        paths = dict.fromkeys(pool(label) for label in range(len(readings)))
        writers = {path: stack.enter_context(TextWriter(path)) for path in paths}
        for text, label in buckets.sorted():
            writers[pool(label)].add(text, label)
    dropped["duplicate"] += taken - sum(writer.count for writer in writers.values())


def _cleaned(texts: Iterable[str], dropped: dict[str, int]) -> Iterator[bytes]:
    for text in texts:
        cleaned = clean(text)
        if not cleaned:
            dropped["empty"] += 1
        elif not _WORD.search(cleaned):
            dropped["wordless"] += 1
        else:
            yield cleaned.encode()


def _bits(readings: Sequence[Reading]) -> int:
    """Choose how many files to spread over: each as long as is sorted at a time, short texts counted double."""
    expected = sum(reading.size_bytes for reading in readings)
    return min(max(1, (2 * expected // BUCKET_BYTES).bit_length()), _MOST_BITS)


def _ranks(texts: list[bytes], seed: int) -> NDArray[np.uint64]:
    """Return 64 bits of BLAKE2b of each text, ``folded``, keyed by the seed, uint64 [len(texts)]."""
    key = hashlib.sha256(str(seed).encode()).digest()
    digests = b"".join([hashlib.blake2b(folded(text), digest_size=8, key=key).digest() for text in texts])
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def _sorted_file(records: Path, texts: Path) -> Iterator[tuple[bytes, int]]:
    rows, block = np.fromfile(records, _RECORD), texts.read_bytes()
    ends = np.cumsum(rows["length"], dtype=np.uint64)
    order = np.argsort(rows["rank"], kind="stable")
    rank, alike = -1, list[tuple[int, bytes]]()
    for start in range(0, len(order), _WALK):
        part = order[start : start + _WALK]
        walk = (rows["rank"][part].tolist(), ends[part].tolist(), rows["length"][part].tolist())
        for own, end, length, label in zip(*walk, rows["label"][part].tolist(), strict=True):
            if own != rank:
                yield from _distinct(alike)
                rank, alike = own, []
            alike.append((label, block[end - length : end]))
    yield from _distinct(alike)


def _distinct(alike: list[tuple[int, bytes]]) -> Iterator[tuple[bytes, int]]:
    """Yield of texts of one rank, alike but for a clash of hashes, one each: the least of the first source's."""
    if len(alike) == 1:
        yield alike[0][1], alike[0][0]
        return
    kept: dict[bytes, tuple[bytes, int]] = {}
    for label, text in sorted(alike):
        kept.setdefault(folded(text), (text, label))
    yield from kept.values()


def _interleave(stores: Sequence[TextStore], weights: Sequence[float], folder: Path) -> None:
    streams = [_walk(store) for store in stores]
    with TextWriter(folder) as writer:
        for source in turns(weights, [len(store) for store in stores]):
            writer.add(next(streams[source]), source)


def _walk(store: TextStore) -> Iterator[bytes]:
    for start in range(0, len(store), _BLOCK):
        yield from store.raw(start, min(start + _BLOCK, len(store)))
