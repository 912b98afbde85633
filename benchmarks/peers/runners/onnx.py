"""sentence-transformers' ONNX backend, https://sbert.net/docs/sentence_transformer/usage/efficiency.html."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from sentence_transformers import (
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
)

from . import Setting, Vectors
from .batches import files_bytes

PACKAGES = ("sentence-transformers", "onnxruntime", "optimum-onnx", "transformers", "torch")
_FILES = {"fp32": "model.onnx", "O3": "model_O3.onnx", "qint8_avx512_vnni": "model_qint8_avx512_vnni.onnx"}
_CPU = "CPUExecutionProvider"


def prepare(teacher: str, folder: str, texts: list[str], form: str) -> None:
    """Export the teacher, and optimize or quantize the graph, by sentence-transformers' own functions."""
    model = SentenceTransformer(
        teacher, backend="onnx", local_files_only=True, model_kwargs={"export": True, "provider": _CPU}
    )
    model.save_pretrained(folder)
    if form == "fp32":
        return
    if form == "O3":
        export_optimized_onnx_model(model, "O3", folder)
    else:
        export_dynamic_quantized_onnx_model(model, "avx512_vnni", folder)
    (Path(folder) / "onnx" / _FILES["fp32"]).unlink()


class Onnx:
    """A model of the ONNX backend; pooling stays in PyTorch."""

    settings: Sequence[Setting] = ({},)

    def __init__(self, model: SentenceTransformer, folder: Path, threads: int) -> None:
        self._model, self.threads = model, threads
        self.max_length = int(model.max_seq_length or 512)
        self.dim = self.encode(["a"], 1).shape[1]
        self.size_bytes = files_bytes(folder)

    def use(self, setting: Setting) -> None:
        """There is one setting: ``encode`` runs one session."""

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        return self._by(self._model.encode, texts, batch_size)

    def encode_query(self, texts: list[str], batch_size: int) -> Vectors:
        return self._by(self._model.encode_query, texts, batch_size)

    def encode_document(self, texts: list[str], batch_size: int) -> Vectors:
        return self._by(self._model.encode_document, texts, batch_size)

    def _by(self, encode: Callable[..., Any], texts: list[str], batch_size: int) -> Vectors:
        return np.asarray(encode(texts, batch_size=batch_size, show_progress_bar=False), np.float32)


def load(teacher: str, folder: str, threads: int, form: str) -> Onnx:
    """Open the graph of ``form`` that ``prepare`` wrote."""
    import torch

    torch.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    given = {"file_name": f"onnx/{_FILES[form]}", "provider": _CPU, "session_options": options}
    model = SentenceTransformer(folder, device="cpu", backend="onnx", local_files_only=True, model_kwargs=given)
    return Onnx(model, Path(folder), options.intra_op_num_threads)
