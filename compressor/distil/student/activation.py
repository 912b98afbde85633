"""ReLU in the place of a feed-forward's activation: what int8 products give for nothing."""

from typing import Any

from torch import nn
from transformers.activations import ACT2FN

from compressor.core.errors import ModelError
from compressor.distil.student.layers import find_layers

_FIELDS = ("hidden_act", "activation", "hidden_activation", "dense_act_fn")
"""What a config calls the activation, by family."""


def take_relu(transformer: Any) -> int:
    """Put a ReLU where each layer has its config's activation, in place; return how many are new.

    The config states it, so that a saved model loads with it. Zeros cost int8 nothing: a range from zero on cuts what
    is below. Language models learn to do with it (Mirzadeh et al. 2023, arXiv:2310.04564). ModelError where the layers
    hold no activation to replace.
    """
    config = transformer.config
    stated = {name: getattr(config, name) for name in _FIELDS if isinstance(getattr(config, name, None), str)}
    if set(stated.values()) == {"relu"}:
        return 0
    kinds = tuple({type(ACT2FN[value]) for value in stated.values() if value in ACT2FN})
    found = [
        (parent, name)
        for layer in find_layers(transformer)[2]
        for parent in layer.modules()
        for name, child in parent.named_children()
        if isinstance(child, kinds)
    ]
    if not found:
        raise ModelError(f"{config.model_type}: its layers hold no activation to put a ReLU in the place of")
    for parent, name in found:
        setattr(parent, name, nn.ReLU())
    for name in stated:
        setattr(config, name, "relu")
    if "dense_act_fn" in stated:  # which T5's config makes of another field
        config.feed_forward_proj = "gated-relu" if config.is_gated_act else "relu"
    return len(found)
