"""How far a graph is from the PyTorch model that it was traced from, and from itself in other company."""

from collections.abc import Sequence
from math import isqrt
from typing import Any

import numpy as np
import torch

from compressor.core.encoder import Vectors
from exporters.graph.export import Graph
from exporters.session import OnnxEncoder

_SCORES = 1 << 28  # of a layer's attention, in a batch: a GiB


def parity(encoder: OnnxEncoder, model: Any) -> float:
    """Return the largest difference of graph and PyTorch over batch sizes 1, 2, 7, 64 and all kinds of length.

    Lengths run from 1 token to the model's maximum, or as many as its attention takes little memory for, the rows of a
    batch padded to its longest.
    """
    random = np.random.default_rng(0)
    graph = Graph(model).eval()
    heads = getattr(graph.transformer.config, "num_attention_heads", 1)
    longest = min(encoder.max_length, isqrt(_SCORES // (2 * heads)))
    worst = 0.0
    for batch, length in [
        (1, 1),
        (1, 2),
        (1, longest),
        (2, 3),
        (2, longest),
        (7, 17),
        (7, 64),
        (64, 33),
        (64, 1),
    ]:
        length = min(length, longest)
        ids = random.integers(1, graph.transformer.config.vocab_size, (batch, length), dtype=np.int64)
        mask = (np.arange(length) < random.integers(1, length + 1, (batch, 1))).astype(np.int64)
        mask[0] = 1
        tensors = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if "token_type_ids" in graph.names:
            tensors["token_type_ids"] = torch.zeros_like(tensors["input_ids"])
        with torch.inference_mode():
            expected = graph(*tensors.values())[1].numpy()
        # Not max(): it would pass over a NaN.
        worst = float(np.maximum(worst, largest_difference(expected, encoder.run_ids(ids, mask))))
    return worst


def largest_difference(expected: Vectors, actual: Vectors) -> float:
    """Return the largest difference of two numbers that should be the same."""
    return float(np.abs(actual - expected).max())


def invariance(encoder: OnnxEncoder, texts: Sequence[str]) -> tuple[Vectors, Vectors, Vectors]:
    """Return the vectors of ``texts`` computed alone, alone with padding left in, and in one mixed batch of 32."""
    tokens = [ids for ids in encoder.tokenize(texts) if ids]  # no token, no vector to compare
    alone = np.concatenate([encoder.run_ids(*encoder.pad([ids])) for ids in tokens])
    room = [min(16, encoder.max_length - len(ids)) for ids in tokens]
    padded = np.concatenate(
        [encoder.run_ids(*encoder.pad([ids], extra)) for ids, extra in zip(tokens, room, strict=True)]
    )
    batched = np.concatenate([encoder.run_ids(*encoder.pad(tokens[i : i + 32])) for i in range(0, len(tokens), 32)])
    return alone, padded, batched
