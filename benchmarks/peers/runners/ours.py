"""The teacher and this project's own artifacts, as ``compressor bench`` runs them."""

from collections.abc import Sequence
from typing import Any

from benchmarks.systems import System
from compressor.vectors.retrieval import encoder_for
from exporters.tasks.base import threads_of

from . import Setting, Vectors

PACKAGES = ("torch", "sentence-transformers", "transformers", "onnxruntime", "compressor")


class Ours:
    """One of the systems of the benchmark."""

    settings: Sequence[Setting] = ({},)

    def __init__(self, system: System) -> None:
        self._encoder = system.encoder()
        self.dim, self.max_length = self._encoder.dim, self._encoder.max_length
        self.size_bytes, self.threads = system.size_bytes, threads_of(self._encoder)

    def use(self, setting: Setting) -> None:
        """There is one setting."""

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        return self._encoder.encode(texts, batch_size)

    def encode_query(self, texts: list[str], batch_size: int) -> Vectors:
        return encoder_for(self._encoder, "query")(texts, batch_size)

    def encode_document(self, texts: list[str], batch_size: int) -> Vectors:
        return encoder_for(self._encoder, "document")(texts, batch_size)


def load(teacher: str, folder: str | None, threads: int, system: dict[str, Any]) -> Ours:
    """Open the ``system`` whose fields are given."""
    return Ours(System(**system))
