"""Attention as it trains fastest on a CPU."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


def keep_attention(model: torch.nn.Module) -> None:
    """Drop no attention weights in training, in place; token states are dropped as the model has it.

    Drawing which to drop, tokens times tokens a head, and the plain attention that it needs take a third of a step on
    a CPU. Attention is where queries, keys and values are: three linear layers in one module.
    """
    for module in model.modules():
        children = list(module.children())
        if sum(isinstance(child, torch.nn.Linear) for child in children) < 3:
            continue
        for child in children:
            if isinstance(child, torch.nn.Dropout):
                child.p = 0.0
        for name in ("dropout_prob", "attention_dropout"):  # what fused attention reads
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


class WideAttention(TorchFunctionMode):
    """While it is entered, fused attention on the CPU runs in fp32, whatever the rest of a bf16 training runs in.

    PyTorch's backward of it takes 2.4 times as long in bf16 as in fp32 (2.13; 16 texts of 130 tokens, 12 heads of 32),
    a sixth of a training step.
    """

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run ``function``, its bf16 inputs widened where it is attention."""
        kwargs = kwargs or {}
        narrow = torch.bfloat16
        if function is not scaled_dot_product_attention or args[0].dtype != narrow or args[0].device.type != "cpu":
            return function(*args, **kwargs)
        wide = [a.float() if isinstance(a, torch.Tensor) and a.dtype == narrow else a for a in args]
        named = {n: a.float() if isinstance(a, torch.Tensor) and a.dtype == narrow else a for n, a in kwargs.items()}
        with torch.autocast("cpu", enabled=False):
            return function(*wide, **named).to(narrow)
