"""What computes a model's attention: changed in place, or while a model trains."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

_PLAIN_TOKENS = 128  # up to here plain operators train faster than the fused one, whose memory grows less
_HINTS = (str, bool)  # by which a model's parts know what computes attention


def use_attention(model: Any, implementation: str) -> None:
    """Have a Hugging Face model's attention computed by ``implementation``: ``eager`` or ``sdpa``; weights stay.

    transformers 5 can do so for all its models. Those of 4.57 whose attention is a class for each way of computing it
    (BERT, DistilBERT) only warn there: their parts become those that the same configuration has with the other way.
    """
    model.set_attn_implementation(implementation)
    if model.config._attn_implementation == implementation:
        return
    config = deepcopy(model.config)
    template = type(model)._from_config(config, attn_implementation=implementation)
    for part, wanted in zip(model.modules(), template.modules(), strict=True):
        part.__class__ = type(wanted)
        for name, value in vars(wanted).items():
            if name not in vars(part) or (isinstance(value, _HINTS) and name != "training"):
                setattr(part, name, value)
    model.config._attn_implementation_internal = implementation


class FastAttention(TorchFunctionMode):
    """While it is entered, attention in bf16 on a CPU is computed by what trains fastest there.

    PyTorch's fused attention takes two to ten times as long in bf16 as other ways, most of it backward. Forward and
    backward on two cores of an EPYC with AVX512-BF16 (2.13; 12 heads of 32 dimensions; 128 texts of 16 and 64 tokens,
    64 of 128, 32 of 256): fused 59, 174, 154 and 154 ms, plain operators 6, 34, 54 and 148, fused in fp32 14, 54, 67
    and 124. Attention in fp32, on a card, or of more tokens than plain operators have memory for stays fused.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run ``function``; attention in bf16 in plain operators, or with its inputs widened."""
        kwargs = kwargs or {}
        if function is not scaled_dot_product_attention:
            return function(*args, **kwargs)
        given = dict(zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)) | kwargs
        query = given["query"]
        if query.dtype != torch.bfloat16 or query.device.type != "cpu":
            return function(**given)
        with torch.autocast("cpu", enabled=False):
            if _is_plain(given):
                return _plain(query, given["key"], given["value"], given.get("attn_mask"), given.get("scale"))
            return function(**{name: _widened(value) for name, value in given.items()}).to(query.dtype)


def _is_plain(given: dict[str, Any]) -> bool:
    special = any(given.get(name) for name in ("dropout_p", "is_causal", "enable_gqa"))
    return not special and given["key"].shape[-2] <= _PLAIN_TOKENS


def _plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    """Return the attention of queries, keys and values, each [..., tokens, dim], in operators of its own."""
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-1, -2)
    if mask is not None:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, torch.finfo(scores.dtype).min)
        scores = scores + mask
    return torch.softmax(scores, -1).to(value.dtype) @ value


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.bfloat16 else value
