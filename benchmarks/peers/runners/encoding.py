"""A model that sentence-transformers encodes with, whatever computes it."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from . import Setting, Vectors


class Encoding:
    """A model at work: it has one setting, and prompts as sentence-transformers puts them."""

    settings: Sequence[Setting] = ({},)

    def __init__(self, model: SentenceTransformer, size_bytes: int, threads: int) -> None:
        self._model, self.size_bytes, self.threads = model, size_bytes, threads
        self.max_length = int(model.max_seq_length or 512)
        self.dim = self.encode(["a"], 1).shape[1]

    def use(self, setting: Setting) -> None:
        """There is one setting."""

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        return self._by(self._model.encode, texts, batch_size)

    def encode_query(self, texts: list[str], batch_size: int) -> Vectors:
        return self._by(self._model.encode_query, texts, batch_size)

    def encode_document(self, texts: list[str], batch_size: int) -> Vectors:
        return self._by(self._model.encode_document, texts, batch_size)

    def _by(self, encode: Callable[..., Any], texts: list[str], batch_size: int) -> Vectors:
        return np.asarray(encode(texts, batch_size=batch_size, show_progress_bar=False), np.float32)
