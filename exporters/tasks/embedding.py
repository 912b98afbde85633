"""Sentence embedding: a text in, a vector out."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from compressor.artifact.layout import Kind
from exporters.runtime.names import with_cpu
from exporters.tasks.base import TORCH_CUDA, TORCH_CUDA_FP16, Item, Runner, Task
from exporters.tasks.lengths import plain_tokenizer, texts_of_length

if TYPE_CHECKING:
    from exporters.serving import Served


class Embedding(Task):
    """Turn a text into a vector."""

    name = "sentence-embedding"
    unit = "texts"
    call = "PyTorch fp32 encode"

    def open(self, folder: Path, kind: Kind, provider: str, threads: int | None, **options: Any) -> Runner:
        """Open an encoder; ``max_length``: tokens after which PyTorch cuts a text, by default the model's own."""
        if kind == "onnx":
            from exporters.session import OnnxEncoder

            return OnnxEncoder(folder, with_cpu(provider), threads)
        import torch

        if threads:
            torch.set_num_threads(threads)
        if kind == "torch-int8":
            from compressor.models.torch_int8 import TorchInt8Encoder

            return TorchInt8Encoder.load(folder)
        from compressor.models.sentence_model import TorchEncoder

        device = "cuda" if provider in (TORCH_CUDA, TORCH_CUDA_FP16) else "cpu"
        half = provider == TORCH_CUDA_FP16
        return TorchEncoder.load(folder, "fp16" if half else "fp32", device, options.get("max_length"))

    def imports(self, kind: Kind) -> tuple[str, ...]:
        onnx = ("exporters.session",)
        return onnx if kind == "onnx" else ("compressor.models.torch_int8", "compressor.models.sentence_model")

    def check(self, runner: Runner, items: Sequence[Item], name: str) -> None:
        from compressor.models.agreement import check_vectors

        check_vectors(runner.encode(items), name)

    def tokenizer(self, folder: Path) -> Tokenizer:
        from compressor.models.source import transformer_folder

        return plain_tokenizer(transformer_folder(folder) / "tokenizer.json")

    def tokens(self, tokenizer: Tokenizer, items: Sequence[Item]) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(items))]

    def of_length(
        self, tokenizer: Tokenizer, items: Sequence[Item], tokens: int, count: int | None = None
    ) -> list[Item]:
        return texts_of_length(tokenizer, items, tokens, count)

    def feeds(self, runner: Any, items: Sequence[Item]) -> dict[str, Any]:
        ids, mask = runner.pad(runner.tokenize(items))
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}

    def stream(self, runner: Any, items: Iterable[Item], batch_size: int) -> Iterator[int]:
        for block in runner.stream(items, batch_size):
            yield len(block)

    def served(self, runner: Runner) -> "Served | None":
        from exporters.session import OnnxEncoder

        return runner if isinstance(runner, OnnxEncoder) else None
