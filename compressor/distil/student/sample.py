"""A bounded sample of texts as batches of tokens, on which a student is fitted before it is trained."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from compressor.core.errors import TextError
from compressor.models.sentence_model import default_prompt, transformer_of

MAX_TEXTS = 2000
MAX_TOKENS = 1 << 15
"""Tokens of a sample, at most: what bounds the memory of a fit."""
MAX_LENGTH = 128
_BATCH = 32


@dataclass(frozen=True)
class Batch:
    """Some texts of a sample: their ``rows`` in it and what the model reads, int64 [texts, tokens]."""

    rows: list[int]
    features: dict[str, Tensor]

    @property
    def real(self) -> Tensor:
        """Which tokens are no padding, bool [texts, tokens]."""
        return self.features["attention_mask"].bool()


def sample_batches(model: SentenceTransformer, texts: Sequence[str], limit: int = MAX_TEXTS) -> list[Batch]:
    """Return the first texts, at most ``limit`` and MAX_TOKENS of them, in batches of like length.

    Raises TextError where there is no text.
    """
    if not len(texts):
        raise TextError("no texts; a student is fitted on a sample of them")
    texts = [default_prompt(model) + text for text in texts[:limit]]
    options = {"truncation": True, "max_length": min(model.max_seq_length or MAX_LENGTH, MAX_LENGTH)}
    lengths = torch.tensor([len(ids) for ids in model.tokenizer(texts, **options)["input_ids"]])
    count = max(1, int((lengths.cumsum(0) <= MAX_TOKENS).sum()))
    order = lengths[:count].argsort(stable=True).tolist()
    reads = inspect.signature(transformer_of(model).forward).parameters
    batches = []
    for start in range(0, count, _BATCH):
        rows = order[start : start + _BATCH]
        padded = model.tokenizer([texts[row] for row in rows], padding=True, return_tensors="pt", **options)
        batches.append(Batch(rows, {name: ids.to(model.device) for name, ids in padded.items() if name in reads}))
    return batches


def vectors_of(model: SentenceTransformer, batch: Batch, modules: int | None = None) -> Tensor:
    """Return the vectors of ``batch`` by the first ``modules`` modules of ``model`` (all), float32 [texts, dim]."""
    features = dict(batch.features)
    for module in list(model)[:modules]:
        features = module(features)
    return features["sentence_embedding"]
