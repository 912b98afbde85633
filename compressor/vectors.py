"""Teacher vectors: computed once, kept in a memory-mapped file, continued where an interrupted run stopped."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.agreement import Heldout
from compressor.artifact import key_of
from compressor.corpus import Corpus
from compressor.encoder import Encoder
from compressor.errors import storage
from compressor.machine import bf16_is_fast
from compressor.progress import track
from compressor.sentence_model import Precision, TorchEncoder
from compressor.teacher import Source

_CHUNK = 4096  # texts encoded between two points that an interrupted run can go on from


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
    with storage(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            _compute(encoder, texts, path, batch_size)
    return np.load(path, mmap_mode="r", allow_pickle=False)


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
    path = _path([teacher.key, precision, *identity])
    if not path.is_file():
        encoder = TorchEncoder.load(teacher.folder, precision)
        return teacher_vectors(encoder, texts, [teacher.key, precision, *identity])
    return np.load(path, mmap_mode="r", allow_pickle=False)


def _compute(encoder: Encoder, texts: Sequence[str], path: Path, batch_size: int) -> None:
    partial, marker = path.with_suffix(".partial.npy"), path.with_suffix(".count")
    shape = (len(texts), encoder.dim)
    done = int(marker.read_text()) if marker.is_file() and partial.is_file() else 0
    mode = "r+" if done else "w+"
    rows = np.lib.format.open_memmap(partial, mode=mode, dtype=np.float16, shape=None if done else shape)
    with track("teacher vectors", len(texts)) as advance:
        advance(done)
        for start in range(done, len(texts), _CHUNK):
            chunk = texts[start : start + _CHUNK]
            rows[start : start + len(chunk)] = encoder.encode(chunk, batch_size=batch_size)
            rows.flush()
            _mark(marker, start + len(chunk))
            advance(len(chunk))
    del rows
    os.replace(partial, path)
    marker.unlink(missing_ok=True)


def _mark(marker: Path, count: int) -> None:
    temporary = marker.with_suffix(".count-new")
    temporary.write_text(str(count))
    os.replace(temporary, marker)
