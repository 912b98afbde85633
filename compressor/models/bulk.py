"""Vectors of very many texts: the model's own modules, run over batches of equal length and of as many tokens."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from compressor.core.encoder import Vectors, check_texts
from compressor.models.sentence_model import ComputePrecision, default_prompt, embedding_dimension, open_model

WINDOW_TEXTS = 16_384
"""Texts tokenized at a time, and sorted by length; fewer where they are long."""

_WINDOW_CHARACTERS = 1 << 22
_GROUP = 512  # texts tokenized in one call, of like length
_CPU_TOKENS, _CUDA_TOKENS = 2048, 65_536  # in a batch: what the caches hold, what keeps a card busy


@dataclass
class BulkEncoder:
    """A sentence-transformers model that gives the vectors of ``encode``, many texts at a time and faster.

    The texts are tokenized as ``encode`` does, prompt included, sorted by their length in tokens, and cut
    into batches of ``batch_tokens`` tokens at most, padding counted. A batch without padding goes through
    the transformer without an attention mask, which spares the attention its masking.
    """

    model: SentenceTransformer
    batch_tokens: int = 0

    def __post_init__(self) -> None:
        self.model.eval()
        self.batch_tokens = self.batch_tokens or (_CUDA_TOKENS if self.model.device.type == "cuda" else _CPU_TOKENS)
        self._prompt = default_prompt(self.model)
        self._maskable = _takes_no_mask(self.model[0])
        self._turned = any("rotary" in type(module).__name__.lower() for module in self.model.modules())

    @classmethod
    def load(cls, folder: Path, precision: ComputePrecision = "fp32", device: str = "cpu") -> "BulkEncoder":
        """Open a checked folder; in bf16 the transformer runs in it, pooling and what follows stay in fp32."""
        model = open_model(folder, device)
        if precision == "bf16" and isinstance(model[0], Transformer):
            model[0].bfloat16()
        return cls(model)

    @property
    def dim(self) -> int:
        return int(self.model.truncate_dim or embedding_dimension(self.model))

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return float32 [len(texts), dim], the vectors that sentence-transformers' ``encode`` gives."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start, window in _windows(texts):
            check_texts(window, start)
            order = np.argsort([len(text) for text in window], kind="stable")
            for rows, features in self._batches(window, order):
                vectors[start + rows] = self._run(features)
        return vectors

    def _batches(self, window: list[str], order: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], dict[str, Any]]]:
        """Yield batches, row numbers and features; texts of one length in tokens stand together."""
        groups = [order[at : at + _GROUP] for at in range(0, len(order), _GROUP)]
        tokenized = [self.model.preprocess([window[i] for i in rows], prompt=self._prompt) for rows in groups]
        if not all(
            self._is_padded_aside(features, len(rows)) for rows, features in zip(groups, tokenized, strict=True)
        ):
            yield from zip(groups, tokenized, strict=True)
            return
        tokens = Tokens.of(tokenized)
        by_length = np.argsort(tokens.lengths, kind="stable")
        for rows in _cut(by_length, tokens.lengths, self.batch_tokens):
            yield order[rows], tokens.batch(rows, self._padding)

    @property
    def _padding(self) -> dict[str, int]:
        # RoBERTa and its kin count positions by what is not padding; every other feature is 0 there.
        return {"input_ids": int(getattr(self.model.tokenizer, "pad_token_id", None) or 0)}

    def _is_padded_aside(self, features: dict[str, Any], count: int) -> bool:
        """Whether the features are tokens of ``count`` texts, with a mask whose zeros all stand at the right.

        Or at the left, where positions only tell how far apart two tokens are.
        """
        mask, ids = features.get("attention_mask"), features.get("input_ids")
        if not isinstance(mask, torch.Tensor) or ids is None or mask.shape != ids.shape or len(ids) != count:
            return False
        if self._turned and bool(mask[:, -1].all()):
            mask = mask.flip(1)
        return bool((mask[:, 1:] <= mask[:, :-1]).all()) and bool(mask[:, 0].all())

    def _run(self, features: dict[str, Any]) -> Vectors:
        """Run the modules one after another, as SentenceTransformer.forward does."""
        features = {k: v.to(self.model.device) if isinstance(v, torch.Tensor) else v for k, v in features.items()}
        mask = features.get("attention_mask")
        if self._maskable and mask is not None and bool(mask.all()):
            del features["attention_mask"]
        first, *later = list(self.model)
        features = {name: _as_float(value) for name, value in first(features).items()}
        if mask is not None:
            features["attention_mask"] = mask
        for module in later:
            features = module(features)
        vectors = features["sentence_embedding"][:, : self.model.truncate_dim]
        return vectors.float().cpu().numpy()


@dataclass
class Tokens:
    """The tokens of many texts end to end, padding left out: of each feature a flat tensor, in the texts' order."""

    flat: dict[str, torch.Tensor]
    lengths: NDArray[np.int64]
    shared: dict[str, Any]
    """Features that have no value a token, the same for every text."""

    @classmethod
    def of(cls, groups: list[dict[str, Any]]) -> "Tokens":
        """Join groups of features, each [texts, tokens] with padding."""
        masks = [group["attention_mask"] for group in groups]
        shape = masks[0].shape
        names = [k for k, v in groups[0].items() if isinstance(v, torch.Tensor) and v.shape == shape]
        flat = {name: torch.cat([g[name][m.bool()] for g, m in zip(groups, masks, strict=True)]) for name in names}
        lengths = torch.cat([mask.sum(dim=1) for mask in masks]).numpy().astype(np.int64)
        return cls(flat, lengths, {k: v for k, v in groups[0].items() if k not in names})

    def batch(self, rows: NDArray[np.intp], padding: dict[str, int]) -> dict[str, Any]:
        """Return the features of some texts, [len(rows), tokens of the longest], padded at the right."""
        lengths = self.lengths[rows]
        columns = np.arange(lengths.max())
        inside = torch.from_numpy(columns[None, :] < lengths[:, None])
        at = torch.from_numpy(np.minimum(self._starts[rows][:, None] + columns, len(self.flat["attention_mask"]) - 1))
        batch = {k: flat[at].masked_fill(~inside, padding.get(k, 0)) for k, flat in self.flat.items()}
        return batch | self.shared

    def __post_init__(self) -> None:
        self._starts = np.cumsum(self.lengths) - self.lengths


def _windows(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Cut ``texts`` into windows of so many texts or characters at most; yield where each begins, and its texts."""
    start = 0
    while start < len(texts):
        window = texts[start : start + WINDOW_TEXTS]
        ends = np.cumsum([len(text) for text in window])
        count = max(1, int(np.searchsorted(ends, _WINDOW_CHARACTERS, side="right")))
        yield start, list(window[:count])
        start += count


def _cut(order: NDArray[np.intp], lengths: NDArray[np.int64], tokens: int) -> Iterator[NDArray[np.intp]]:
    """Cut rows, shortest first, into batches: texts times the longest's tokens is ``tokens`` at most."""
    start = 0
    ascending = lengths[order]
    while start < len(order):
        most = max(1, tokens // max(1, int(ascending[start])))
        padded = ascending[start : start + most] * np.arange(1, len(ascending[start : start + most]) + 1)
        count = max(1, int(np.searchsorted(padded, tokens, side="right")))
        yield order[start : start + count]
        start += count


def _takes_no_mask(module: Any) -> bool:
    """Whether the module is a transformer that reads a mask left out as one of all ones."""
    if not isinstance(module, Transformer):
        return False
    mask = inspect.signature(module.auto_model.forward).parameters.get("attention_mask")
    return mask is not None and mask.default is None


def _as_float(value: Any) -> Any:
    """Return bf16 tensors, also those of a tuple, in fp32."""
    if isinstance(value, tuple | list):
        return type(value)(map(_as_float, value))
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
