"""The teacher's vectors computed ahead, here or on a cluster, into the cache in which training looks for them."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compressor.artifact.code import code_key
from compressor.core.cache import cache_folder
from compressor.core.errors import ArtifactError, ModelError, storage
from compressor.core.files import partial
from compressor.core.progress import track
from compressor.machine.cluster import Cluster, Work, check_code, spread
from compressor.models import teacher_vectors
from compressor.models.sentence_model import ComputePrecision
from compressor.models.source import Source, content_key
from compressor.models.teacher_vectors import vectors_of
from compressor.texts.textstore import TextStore

_CODE = "compressor.models.bulk"  # what vectors are computed by


@dataclass(frozen=True)
class Asked:
    """Texts whose vectors are asked for."""

    texts: Sequence[str]
    precision: ComputePrecision


class VectorShards(Work):
    """A worker that opens the teacher; a piece is a shard of vectors."""

    def __init__(self, teacher: Source, asked: Sequence[Asked], marker: Path) -> None:
        self.teacher = replace(teacher, folder=teacher.folder.absolute())
        self.precisions = [part.precision for part in asked]
        self.texts = [_packed(part.texts) for part in asked]
        each = teacher_vectors.SHARD_TEXTS
        self.pieces = [(i, at) for i, part in enumerate(asked) for at in range(0, len(part.texts), each)]
        self._each, self._cache = each, cache_folder().absolute()
        self._marker, self._mark, self._code = marker, marker.read_text(), code_key(_CODE)

    def open(self) -> None:
        """Open the texts; ArtifactError for other code, or another cache, ModelError for another teacher."""
        host = socket.gethostname()
        os.environ["COMPRESSOR_CACHE"] = str(self._cache)
        for name in ("RANK", "WORLD_SIZE"):
            os.environ.pop(name, None)
        check_code(code_key(_CODE), self._code)
        if not self._marker.is_file() or self._marker.read_text() != self._mark:
            raise ArtifactError(f"{host}: {self._cache}: not the same cache; every machine must see it there")
        if not self.teacher.folder.is_dir() or content_key(self.teacher.folder) != self.teacher.key:
            raise ModelError(f"{host}: {self.teacher.folder}: not the teacher; every machine must see it there")
        self._opened = [TextStore(*texts) if isinstance(texts, tuple) else texts for texts in self.texts]

    def do(self, number: int) -> int:
        """Keep a shard's vectors, unless they are there; return its texts."""
        which, start = self.pieces[number]
        texts = self._opened[which][start : start + self._each]
        vectors_of(self.teacher, texts, self.precisions[which])
        return len(texts)


def teach(teacher: Source, asked: Sequence[Asked], cluster: Cluster | None = None) -> Path:
    """Keep the teacher's vectors of all that is asked, shard by shard, and return the folder of the cache.

    What is there is left; a call that was stopped goes on. Without a cluster it is ``vectors_of``. The machines of one
    must see the cache and the teacher at the same paths; which precision is learnt from is decided by the caller's.
    """
    folder = cache_folder().absolute() / "vectors"
    if cluster is None:
        for part in asked:
            vectors_of(teacher, part.texts, part.precision)
        return folder
    marker = partial(folder / "teach")
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text(marker.name)
    try:
        work = VectorShards(teacher, asked, marker)
        with track("teacher vectors", sum(len(part.texts) for part in asked)) as advance:
            spread(work, range(len(work.pieces)), cluster, advance)
    finally:
        marker.unlink(missing_ok=True)
    return folder


def _packed(texts: Sequence[str]) -> list[str] | tuple[Path, int]:
    """Return texts as they are sent: those of a store by its place."""
    return (texts.folder.absolute(), len(texts)) if isinstance(texts, TextStore) else list(texts)
