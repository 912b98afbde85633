"""Model2Vec: one vector a token, distilled from the teacher by its own ``distill``; no transformer is left."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from model2vec import StaticModel

from . import Setting, Vectors
from .batches import files_bytes, transformer_folder

PACKAGES = ("model2vec", "tokenizers")


def prepare(teacher: str, folder: str, texts: list[str]) -> None:
    """Distil the teacher with the library's defaults."""
    from model2vec.distill import distill

    distill(str(transformer_folder(Path(teacher)))).save_pretrained(folder)


class Model2Vec:
    """A static model."""

    settings: Sequence[Setting] = ({},)

    def __init__(self, folder: Path, threads: int) -> None:
        self._model = StaticModel.from_pretrained(folder)
        self.dim, self.max_length, self.size_bytes = int(self._model.dim), 512, files_bytes(folder)
        self.threads = threads  # of its tokenizer, by the worker's variables

    def use(self, setting: Setting) -> None:
        """There is one setting."""

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        return np.asarray(self._model.encode(texts, batch_size=batch_size), np.float32)


def load(teacher: str, folder: str, threads: int) -> Model2Vec:
    """Open what ``prepare`` wrote."""
    return Model2Vec(Path(folder), threads)
