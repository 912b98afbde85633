"""What a reader's attention drops in training."""

import torch


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
