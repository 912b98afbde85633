"""The nearest texts of every text by the teacher's vectors: hard negatives, mined once and kept."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.artifact.code import code_key
from compressor.artifact.folder import key_of
from compressor.core.cache import cache_folder, remove_leftovers
from compressor.core.encoder import Vectors
from compressor.core.errors import storage
from compressor.core.files import replacing
from compressor.core.progress import track
from compressor.machine.processes import place
from compressor.models.agreement import normalized

Numbers = NDArray[np.int64]
Neighbours = NDArray[np.int32]
"""Numbers of each text's nearest texts, nearest first, [texts, count]."""

DOCUMENTS = 32_768
"""Texts that neighbours are looked for among, at most: 250,000 texts of 384 dimensions against so many are 6 TFLOP, a
minute or two on two cores; all against all are eight times that."""
_SHARD_TEXTS = 16_384
_BLOCK = 512  # texts compared with all documents at a time, 64 MiB of similarities
_SPARE = 8  # nearest texts looked at beyond those wanted, to pass over texts that say the same
_SAME = 1 - 1e-5  # cosine from which the teacher tells two texts apart by rounding alone


def mine(vectors: Callable[[Numbers], Vectors], texts: int, documents: int, count: int) -> Neighbours:
    """Return the ``count`` nearest of each of ``texts``, nearest first, by the cosine of the teacher's vectors.

    They are looked for among DOCUMENTS of the first ``documents`` texts, drawn at random; ``count`` must be below
    ``documents``. The text itself, and up to seven more of the same vector (duplicates, or the text that it
    translates), are passed over. ``vectors`` gives those of texts by their numbers, float32 [n, width].

    Shards lie in the cache under the hash of what they are of, so a training that goes on, and another recipe with
    the same vectors, read them. Under torchrun every process begins at another shard, and reads those that others
    have made meanwhile.
    """
    rank, world = place()
    starts = range(0, texts, _SHARD_TEXTS)
    turn = rank * len(starts) // world
    folder, found = cache_folder() / "neighbours", dict[int, Neighbours]()
    with storage(folder), track("nearest texts", texts) as advance:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        sample = _Documents.drawn(vectors, documents)
        for start in (*starts[turn:], *starts[:turn]):
            own = normalized(vectors(np.arange(start, min(start + _SHARD_TEXTS, texts), dtype=np.int64)))
            path = folder / f"{key_of(code_key(__name__), sample.digest, _digest(own), count)}.npz"
            kept = _read(path, (len(own), count))
            if kept is None:
                kept = sample.nearest(own, count)
                with replacing(path) as draft, draft.open("wb") as file:
                    np.savez(file, neighbours=kept)
            found[start] = kept
            advance(len(own))
    return np.concatenate([found[start] for start in starts])


@dataclass(frozen=True)
class _Documents:
    """Texts that neighbours are looked for among."""

    numbers: Numbers
    """[documents], rising."""
    vectors: Vectors
    """float32 [documents, width], rows of length 1."""
    digest: str

    @classmethod
    def drawn(cls, vectors: Callable[[Numbers], Vectors], documents: int) -> "_Documents":
        """Draw DOCUMENTS of the first texts, or take all where there are fewer."""
        numbers = np.sort(np.random.default_rng(0).permutation(documents)[:DOCUMENTS]).astype(np.int64)
        units = normalized(vectors(numbers))
        return cls(numbers, units, _digest(numbers, units))

    def nearest(self, own: Vectors, count: int) -> Neighbours:
        """Return the numbers of the nearest documents of ``own``, float32 [n, width], rows of length 1."""
        keys, spare = torch.from_numpy(self.vectors).T, min(_SPARE, len(self.numbers) - count)
        found = []
        for start in range(0, len(own), _BLOCK):
            near = (torch.from_numpy(own[start : start + _BLOCK]) @ keys).topk(count + spare, dim=1)
            same = (near.values > _SAME).sum(1, keepdim=True).clamp(max=spare)  # they come first
            found.append(near.indices.gather(1, same + torch.arange(count)))
        return self.numbers[torch.cat(found).numpy()].astype(np.int32)


def _read(path: Path, shape: tuple[int, int]) -> Neighbours | None:
    """Return the neighbours in a file; None where it is missing, of another shape, or fails the archive's checksum."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            kept: Neighbours = archive["neighbours"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return kept if kept.shape == shape and kept.dtype == np.int32 else None


def _digest(*arrays: NDArray[Any]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
