"""Attention that adds its mask, the form that ONNX Runtime fuses, for a family that fills it in instead."""

import math
from typing import Any

import torch
from transformers.models.distilbert import modeling_distilbert as distilbert

_FILLING: Any = getattr(distilbert, "MultiHeadSelfAttention", None)
"""DistilBERT's attention in transformers 4.57; transformers 5 adds its masks."""


def add_masks(model: torch.nn.Module) -> None:
    """Have every attention of ``model`` add its mask to the scores, in place; what it gives stays the same."""
    for part in model.modules():
        if _FILLING is not None and type(part) is _FILLING:
            part.forward = _Adding(part)


class _Adding:
    """The forward of a DistilBERT layer's attention over texts [batch, tokens, width], mask [batch, tokens]."""

    def __init__(self, part: Any) -> None:
        self.part = part

    def __call__(self, query: Any, key: Any, value: Any, mask: Any, *_: Any, **__: Any) -> tuple[torch.Tensor]:
        part, size = self.part, self.part.dim // self.part.n_heads

        def heads(states: torch.Tensor) -> torch.Tensor:
            return states.view(query.shape[0], -1, part.n_heads, size).transpose(1, 2)

        q, k, v = heads(part.q_lin(query)), heads(part.k_lin(key)), heads(part.v_lin(value))
        scores = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(size)
        padding = (1.0 - mask[:, None, None, :].to(scores.dtype)) * torch.finfo(scores.dtype).min
        context = torch.matmul(torch.softmax(scores + padding, dim=-1), v)
        return (part.out_lin(context.transpose(1, 2).contiguous().view(query.shape[0], -1, part.dim)),)
