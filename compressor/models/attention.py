"""What computes a model's attention, changed in place."""

from copy import deepcopy
from typing import Any

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
