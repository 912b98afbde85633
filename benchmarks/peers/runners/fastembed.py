"""fastembed, its own custom model of a graph in a folder, https://qdrant.github.io/fastembed."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

from . import Setting, Vectors
from .batches import Prompted, Tail, Tokens, files_bytes, transformer_folder

PACKAGES = ("fastembed", "onnxruntime", "tokenizers")
_NAME = "peers/teacher"


class FastEmbed(Prompted):
    """A custom text embedding."""

    settings: Sequence[Setting] = ({},)

    def __init__(self, teacher: Path, folder: Path, threads: int) -> None:
        super().__init__(teacher)
        tail = Tail(teacher)
        config = json.loads((transformer_folder(teacher) / "config.json").read_text(encoding="utf-8"))
        self.dim, self.max_length = int(config["hidden_size"]), Tokens(teacher).max_length
        TextEmbedding.add_custom_model(
            model=_NAME,
            pooling=PoolingType.CLS if tail.pooling == "cls" else PoolingType.MEAN,
            normalization=tail.normalize,
            sources=ModelSource(hf=_NAME),  # asked for by the signature; nothing is fetched
            dim=self.dim,
            model_file="onnx/model.onnx",
        )
        self._model = TextEmbedding(_NAME, specific_model_path=str(folder), threads=threads)
        self.size_bytes, self.threads = files_bytes(folder), threads

    def use(self, setting: Setting) -> None:
        """There is one setting: more processes only pay for very many texts."""

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        return np.stack(list(self._model.embed(texts, batch_size=batch_size))).astype(np.float32)


def load(teacher: str, folder: str, threads: int) -> FastEmbed:
    """Open the graph that sentence-transformers exported."""
    return FastEmbed(Path(teacher), Path(folder), threads)
