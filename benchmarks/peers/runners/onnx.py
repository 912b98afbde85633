"""sentence-transformers' ONNX backend, https://sbert.net/docs/sentence_transformer/usage/efficiency.html."""

from pathlib import Path

import onnxruntime
from sentence_transformers import (
    SentenceTransformer,
    export_dynamic_quantized_onnx_model,
    export_optimized_onnx_model,
)

from .batches import files_bytes
from .encoding import Encoding

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


def load(teacher: str, folder: str, threads: int, form: str) -> Encoding:
    """Open the graph of ``form`` that ``prepare`` wrote."""
    import torch

    torch.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    given = {"file_name": f"onnx/{_FILES[form]}", "provider": _CPU, "session_options": options}
    model = SentenceTransformer(folder, device="cpu", backend="onnx", local_files_only=True, model_kwargs=given)
    return Encoding(model, files_bytes(Path(folder)), options.intra_op_num_threads)  # pooling stays in PyTorch
