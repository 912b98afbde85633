"""Teacher vectors: computed once, kept in a memory-mapped file, continued where an interrupted run stopped."""

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.agreement import Heldout
from compressor.artifact import key_of, write_json
from compressor.corpus import Corpus
from compressor.encoder import Encoder
from compressor.errors import storage
from compressor.machine import bf16_is_fast
from compressor.progress import track
from compressor.sentence_model import Precision, TorchEncoder
from compressor.stages import Workspace
from compressor.teacher import Source

_CHUNK = 4096  # texts encoded between two points that an interrupted run can go on from
_BLOCK_BYTES = 1 << 24


def cache_folder() -> Path:
    """Return where computed vectors are kept: $COMPRESSOR_CACHE, else ~/.cache/compressor."""
    return Path(os.environ.get("COMPRESSOR_CACHE", "~/.cache/compressor")).expanduser()


def teacher_vectors(
    encoder: Encoder,
    texts: Sequence[str],
    identity: Sequence[str],
    batch_size: int = 64,
) -> NDArray[np.float16]:
    """Return the vectors of ``texts``, float16 [len(texts), dim], as a read-only memory map.

    ``identity`` names all that the vectors depend on (weights, precision, length limit, texts); the same
    identity is served from disk. Half precision moves a unit vector by less than 1e-3 of its length.
    """
    path = _path(identity)
    if _kept(path, len(texts)) is None:
        with storage(path.parent), Workspace(path.with_suffix(".partial")).lock():
            _compute(encoder, texts, path, batch_size)
    return np.lib.format.open_memmap(path, mode="r")


def _path(identity: Sequence[str]) -> Path:
    return cache_folder() / "vectors" / f"{key_of(*identity)}.npy"


def training_vectors(teacher: Source, corpus: Corpus) -> NDArray[np.float16]:
    """Return the teacher's vectors of the training texts, computed in bf16 where the CPU has it."""
    precision: Precision = "bf16" if bf16_is_fast() else "fp32"
    return _of(teacher, corpus.train, precision, corpus.fingerprint, "train")


def heldout_of(teacher: Source, corpus: Corpus) -> Heldout:
    """Return the held-out texts with the teacher's vectors, computed in fp32: all agreement is measured on them."""
    vectors = _of(teacher, corpus.heldout, "fp32", corpus.fingerprint, "heldout")
    return Heldout(corpus.heldout, vectors.astype(np.float32))


def _of(teacher: Source, texts: Sequence[str], precision: Precision, *identity: str) -> NDArray[np.float16]:
    names = [teacher.key, precision, *identity]
    kept = _kept(_path(names), len(texts))
    return teacher_vectors(TorchEncoder.load(teacher.folder, precision), texts, names) if kept is None else kept


def _kept(path: Path, count: int) -> NDArray[np.float16] | None:
    """Open the vectors kept in ``path``; none if they are not there, or not ``count`` whole ones."""
    try:
        rows = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        return None
    return rows if rows.dtype == np.float16 and rows.ndim == 2 and len(rows) == count else None


def _compute(encoder: Encoder, texts: Sequence[str], path: Path, batch_size: int) -> None:
    """Write ``path``; what is done so far, and its checksum, lie in a folder beside it."""
    folder = path.with_suffix(".partial")
    partial, marker = folder / "rows.npy", folder / "done.json"
    done, check = _done(partial, marker, (len(texts), encoder.dim))
    if not done:
        _allocate(partial, (len(texts), encoder.dim))
    rows = np.lib.format.open_memmap(partial, mode="r+")
    with track("teacher vectors", len(texts)) as advance:
        advance(done)
        for start in range(done, len(texts), _CHUNK):
            chunk = encoder.encode(texts[start : start + _CHUNK], batch_size=batch_size).astype(np.float16)
            rows[start : start + len(chunk)] = chunk
            rows.flush()
            check = zlib.crc32(chunk.tobytes(), check)
            write_json(marker, {"texts": start + len(chunk), "crc32": check})
            advance(len(chunk))
    del rows
    os.replace(partial, path)
    shutil.rmtree(folder, ignore_errors=True)


def _done(partial: Path, marker: Path, shape: tuple[int, int]) -> tuple[int, int]:
    """Return how many rows an interrupted run left, and their checksum; 0, 0 if they are not as it left them."""
    try:
        left = json.loads(marker.read_text(encoding="utf-8"))
        rows = np.lib.format.open_memmap(partial, mode="r")
        done, check = int(left["texts"]), int(left["crc32"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0, 0
    sound = rows.shape == shape and rows.dtype == np.float16 and zlib.crc32(rows[:done].tobytes()) == check
    return (done, check) if sound else (0, 0)


def _allocate(partial: Path, shape: tuple[int, int]) -> None:
    """Write a file of zeros: a memory map of a file that the disk has no room for ends in SIGBUS, not in an error."""
    total = 2 * shape[0] * shape[1]
    try:
        with partial.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            for start in range(0, total, _BLOCK_BYTES):
                file.write(bytes(min(_BLOCK_BYTES, total - start)))
    except OSError:
        partial.unlink(missing_ok=True)
        raise
