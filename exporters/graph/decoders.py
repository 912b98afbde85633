"""A decoder's masks in plain operators: its own are built by functions that a tracer cannot follow."""

from typing import Any

import torch

from compressor.models.decoders import is_decoder, states_both_ways


def decoder_inputs(transformer: Any, mask: torch.Tensor) -> dict[str, Any]:
    """Return what a decoder takes in place of ``attention_mask``, int64 [batch, length]; nothing for other families.

    Its masks are float32 [batch, 1, length, length], added to the scores: of each kind of layer where it has several.
    """
    config = transformer.config
    if not is_decoder(config.model_type):
        return {}
    both = states_both_ways(config.to_dict())
    full, window = _added(mask, both, None), getattr(config, "sliding_window", None)
    if getattr(config, "layer_types", None):
        local = full if window is None else _added(mask, both, window)
        masks: Any = {"full_attention": full, "sliding_attention": local}
    else:
        masks = _added(mask, both, window if getattr(config, "use_sliding_window", True) else None)
    return {"attention_mask": masks, "use_cache": False}


def _added(mask: torch.Tensor, both: bool, window: int | None) -> torch.Tensor:
    """Return 0 where a token reads another, and the least number where it does not."""
    place = torch.arange(mask.shape[1], device=mask.device)
    apart = place[:, None] - place[None, :]  # how far a token stands behind the one that it reads
    read = torch.ones_like(apart, dtype=torch.bool) if both else apart >= 0
    if window is not None:
        read = read & (apart.abs() < window)
    read = read[None, None] & mask[:, None, None, :].bool()
    least = torch.finfo(torch.float32).min
    return torch.where(read, torch.tensor(0.0, device=mask.device), torch.tensor(least, device=mask.device))
