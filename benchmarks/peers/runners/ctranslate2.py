"""CTranslate2: an encoder that gives the last states; pooling in NumPy.

Replicas and threads as https://opennmt.net/CTranslate2/performance.html has them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ctranslate2
import numpy as np

from . import Setting, Vectors
from .batches import Batch, Prompted, Tail, Tokens, files_bytes, transformer_folder

PACKAGES = ("ctranslate2", "transformers", "torch")


def prepare(teacher: str, folder: str, texts: list[str]) -> None:
    """Convert the teacher's transformer, weights in int8."""
    Tail(Path(teacher))  # what cannot be served is said before
    source = str(transformer_folder(Path(teacher)))
    ctranslate2.converters.TransformersConverter(source).convert(folder, quantization="int8", force=True)


class CTranslate2(Prompted):
    """An encoder whose replicas each compute a batch."""

    def __init__(self, teacher: Path, folder: Path, threads: int) -> None:
        super().__init__(teacher)
        self._folder, self.threads = folder, threads
        self._tokens, self._tail = Tokens(teacher), Tail(teacher)
        self.max_length, self.size_bytes = self._tokens.max_length, files_bytes(folder)
        self.settings: Sequence[Setting] = [{"replicas": n} for n in range(1, threads + 1) if threads % n == 0]
        self.use(self.settings[0])
        self.dim = self.encode(["a"], 1).shape[1]

    def use(self, setting: Setting) -> None:
        """Share the threads out to so many replicas."""
        replicas = setting["replicas"]
        self._encoder = ctranslate2.Encoder(
            str(self._folder),
            device="cpu",
            compute_type="int8",
            inter_threads=replicas,
            intra_threads=self.threads // replicas,
        )
        self._pool = ThreadPoolExecutor(replicas)

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        batches = list(self._tokens.batches(texts, batch_size))
        done = list(self._pool.map(self._run, batches))
        vectors = np.empty((len(texts), done[0].shape[1]), np.float32)
        for (rows, _, _), part in zip(batches, done, strict=True):
            vectors[rows] = part
        return vectors

    def _run(self, batch: Batch) -> Vectors:
        _, ids, mask = batch
        lengths = mask.sum(1).astype(np.int32)
        dense = ctranslate2.StorageView.from_array(ids.astype(np.int32))
        states = self._encoder.forward_batch(dense, ctranslate2.StorageView.from_array(lengths)).last_hidden_state
        return self._tail.pool(np.asarray(states), mask)


def load(teacher: str, folder: str, threads: int) -> CTranslate2:
    """Open what ``prepare`` wrote."""
    return CTranslate2(Path(teacher), Path(folder), threads)
