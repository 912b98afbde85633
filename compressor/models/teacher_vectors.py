"""Teacher vectors in shards: computed once, kept on disk by the hash of what they are of, whatever the recipe."""

import os
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from compressor.artifact.code import code_key
from compressor.artifact.folder import key_of
from compressor.artifact.workspace import Key
from compressor.core.cache import cache_folder, remove_leftovers
from compressor.core.encoder import Vectors
from compressor.core.errors import ArtifactError, storage
from compressor.core.files import replacing
from compressor.core.progress import track
from compressor.machine.describe import bf16_is_fast
from compressor.machine.processes import place
from compressor.models.agreement import Heldout, check_vectors
from compressor.models.bulk import BulkEncoder
from compressor.models.sentence_model import ComputePrecision
from compressor.models.source import Source
from compressor.texts.textstore import digest_of

if TYPE_CHECKING:
    from compressor.texts.corpus import Corpus

SHARD_TEXTS = 16_384
STALL_SECONDS = 3600.0
"""How long a process waits for the next shard of another process before it gives up."""

_POLL_SECONDS = 0.5
_BLOCK_BYTES = 1 << 22
_MARK = b"crc32"  # after the numbers; then the checksum, 4 bytes, little-endian


@dataclass(frozen=True)
class VectorStore:
    """Vectors on disk, float16 in shards, read as float32; half precision moves a unit vector by less than 1e-3."""

    paths: list[Path]
    count: int
    dim: int
    _maps: dict[int, NDArray[np.float16]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, self.dim

    def __getitem__(self, rows: slice | Sequence[int] | NDArray[np.integer[Any]]) -> Vectors:
        """Return rows as float32 [n, dim], in the order asked for; IndexError beyond the last."""
        wanted = np.arange(*rows.indices(self.count)) if isinstance(rows, slice) else np.asarray(rows)
        if wanted.size and wanted.dtype.kind not in "iu":
            raise IndexError(f"rows are given by whole numbers, not by {wanted.dtype}")
        if wanted.size and not -self.count <= wanted.min() <= wanted.max() < self.count:
            raise IndexError(f"rows {wanted.min()} to {wanted.max()}: there are {self.count}")
        wanted = wanted.astype(np.int64)
        shards, offsets = np.divmod(np.where(wanted < 0, wanted + self.count, wanted), SHARD_TEXTS)
        vectors = np.empty((len(wanted), self.dim), np.float32)
        for shard in np.unique(shards):
            in_shard = shards == shard
            vectors[in_shard] = self._shard(int(shard))[offsets[in_shard]]
        return vectors

    def _shard(self, index: int) -> NDArray[np.float16]:
        if index not in self._maps:
            self._maps[index] = np.lib.format.open_memmap(self.paths[index], mode="r")
        return self._maps[index]


def vectors_of(teacher: Source, texts: Sequence[str], precision: ComputePrecision, shared: bool = True) -> VectorStore:
    """Return the teacher's vectors of ``texts``; shards that are not kept whole are computed.

    A shard is named by the hash of teacher, precision, its texts and the code that computes it, so every recipe with
    the same texts at the same places is served from it. Under torchrun (RANK, WORLD_SIZE) each process computes its
    part of what is ``shared``, which all must ask for, and waits for the others' shards; ArtifactError where none comes
    for STALL_SECONDS.
    """
    starts = range(0, len(texts), SHARD_TEXTS)
    folder = cache_folder() / "vectors"
    names = [_name(teacher, precision, texts, start) for start in starts]
    shards = [
        Shard(folder / name, min(SHARD_TEXTS, len(texts) - start)) for name, start in zip(names, starts, strict=True)
    ]
    rank, world = place() if shared else (0, 1)
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        missing = [i for i, shard in enumerate(shards) if not shard.is_sound()]
        own_shards = [i for i in missing if i % world == rank]
        _compute(teacher, texts, precision, {starts[i]: shards[i] for i in own_shards})
        _wait({i: shards[i] for i in missing if i % world != rank}, world)
    return VectorStore([shard.path for shard in shards], len(texts), shards[0].dim() if shards else 0)


def training_vectors(teacher: Source, corpus: "Corpus") -> VectorStore:
    """Return the teacher's vectors of the training texts."""
    return vectors_of(teacher, corpus.train, training_precision())


def training_precision() -> ComputePrecision:
    """Return the precision of vectors that are learnt from: bf16 where the CPU multiplies it fast."""
    return "bf16" if bf16_is_fast() else "fp32"


def heldout_of(teacher: Source, corpus: "Corpus") -> Heldout:
    """Return the held-out texts with the teacher's vectors, computed in fp32: all agreement is measured on them."""
    vectors = vectors_of(teacher, corpus.heldout, "fp32", shared=False)[:]  # the process that measures asks alone
    check_vectors(vectors, f"teacher {teacher.name}")
    return Heldout(corpus.heldout, vectors)


def dev_of(teacher: Source, corpus: "Corpus") -> Heldout:
    """Return the texts to choose by with the teacher's vectors, computed in fp32: nothing reported is of them."""
    return Heldout(corpus.dev, vectors_of(teacher, corpus.dev, "fp32", shared=False)[:])


def made_by(*precisions: ComputePrecision) -> Key:
    """Return what vectors in ``precisions`` depend on beside teacher and texts: what learns from them does, too."""
    return Key(key_of(code_key("compressor.models.teacher_vectors"), precisions))


@dataclass(frozen=True)
class Shard:
    """One file of vectors: an .npy of float16 [count, dim], and after its numbers their checksum."""

    path: Path
    count: int

    def dim(self) -> int:
        with self.path.open("rb") as file:
            return _header(file)[1]

    def write(self, vectors: NDArray[np.float16]) -> None:
        """Write the file in one rename: it is there whole or not at all, also after a kill."""
        with replacing(self.path) as draft, draft.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(vectors))
            file.write(numbers := np.ascontiguousarray(vectors).tobytes())
            file.write(_MARK + zlib.crc32(numbers).to_bytes(4, "little"))

    def is_sound(self) -> bool:
        """Whether the file is there, of the right length, and its numbers have the checksum after them."""
        try:
            with self.path.open("rb") as file:
                count, dim = _header(file)
                size, left = file.tell() + 2 * count * dim + len(_MARK) + 4, 2 * count * dim
                if count != self.count or os.fstat(file.fileno()).st_size != size:
                    return False
                check = 0
                while left:
                    block = file.read(min(left, _BLOCK_BYTES))
                    check, left = zlib.crc32(block, check), left - len(block)
                return file.read() == _MARK + check.to_bytes(4, "little")
        except (OSError, ValueError):
            return False


def _header(file: BinaryIO) -> tuple[int, int]:
    """Read an .npy header and return its shape; ValueError for anything but float16 [count, dim]."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("not version 1.0")
    shape, fortran_order, kind = np.lib.format.read_array_header_1_0(file)
    if len(shape) != 2 or fortran_order or kind != np.float16:
        raise ValueError(f"{kind} {shape}")
    return int(shape[0]), int(shape[1])


def _name(teacher: Source, precision: ComputePrecision, texts: Sequence[str], start: int) -> str:
    digest = digest_of(texts, start, start + SHARD_TEXTS).hex()
    return f"{key_of(code_key('compressor.models.bulk'), teacher.key, precision, digest)}.npy"


def _compute(teacher: Source, texts: Sequence[str], precision: ComputePrecision, shards: dict[int, Shard]) -> None:
    """Compute shards, given by where their texts start; one that another run finishes meanwhile is left as it is."""
    if not shards:
        return
    encoder = BulkEncoder.load(teacher.folder, precision)
    with track("teacher vectors", sum(shard.count for shard in shards.values())) as advance:
        for start, shard in shards.items():
            if not shard.is_sound():
                shard.write(encoder.encode(texts[start : start + shard.count]).astype(np.float16))
            advance(shard.count)


def _wait(shards: dict[int, Shard], world: int) -> None:
    """Look for the shards of the other processes until all are there."""
    since = time.monotonic()
    while shards:
        left = {i: shard for i, shard in shards.items() if not shard.is_sound()}
        now = time.monotonic()
        if len(left) < len(shards):
            shards, since = left, now
        elif now - since > STALL_SECONDS:
            first, shard = next(iter(left.items()))
            raise ArtifactError(
                f"{shard.path}: shard {first} of the teacher's vectors is due from the process of rank {first % world}"
                f" and did not come in {STALL_SECONDS:g} s"
            )
        else:
            time.sleep(_POLL_SECONDS)
