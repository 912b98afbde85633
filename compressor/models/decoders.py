"""Decoders as encoders: which of them make vectors of texts, and whether they are computed as their folder states."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.core.errors import ModelError

_READ_BY_LAST = ("lasttoken", "weightedmean")  # poolings that weigh the tokens which have read the others


def is_decoder(kind: str) -> bool:
    """Tell a type of model that transformers has to continue texts, and not to fill gaps in them."""
    from transformers.models.auto import modeling_auto as known

    return kind in known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in known.MODEL_FOR_MASKED_LM_MAPPING_NAMES


def states_both_ways(config: Mapping[str, Any]) -> bool:
    """Tell whether a config.json states that a token reads those behind it, too, as EmbeddingGemma's does."""
    return config.get("use_bidirectional_attention") in (True, "all") or config.get("is_causal") is False


def check_decoder(folder: Path, config: Mapping[str, Any], pooling: Sequence[str]) -> None:
    """Refuse a decoder that is pooled by tokens which have not read the text, and one of both halves: ModelError.

    ``pooling`` are the modes of the folder, none where it has no such module.
    """
    kind = config["model_type"]
    if config.get("is_decoder"):
        raise ModelError(f"{folder}: is_decoder = True: {kind} continues texts; only encoders can be compressed")
    if is_decoder(kind) and not states_both_ways(config) and not (pooling and set(pooling) <= set(_READ_BY_LAST)):
        raise ModelError(
            f"{folder}: {kind} is decoder-only, and pooled by {' and '.join(pooling) or 'nothing'}: its tokens read "
            f"those before them alone; must be {' or '.join(_READ_BY_LAST)}, or use_bidirectional_attention"
        )


def check_direction(folder: Path, config: Mapping[str, Any], transformer: Any) -> None:
    """Refuse an opened decoder whose tokens do not read in the direction that its config.json states: ModelError.

    Releases of transformers differ in what they take of it, and leave the rest out in silence.
    """
    if not is_decoder(config["model_type"]) or reads_ahead(transformer) == states_both_ways(config):
        return
    import transformers

    stated = "both ways" if states_both_ways(config) else "only those before it"
    raise ModelError(
        f"{folder / 'config.json'}: a token reads {stated}, which transformers {transformers.__version__} does not "
        f"compute for {config['model_type']}"
    )


def reads_ahead(transformer: Any) -> bool:
    """Tell whether the first token's state depends on the token behind it."""
    import torch  # here: a folder is checked without it

    ids = torch.tensor([[1, 2, 3], [1, 2, 4]], device=transformer.device)
    with torch.inference_mode():
        states = transformer(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[:, 0]
    return not torch.allclose(states[0], states[1], rtol=1e-4, atol=1e-6)


def keep_windows() -> None:
    """Have a Gemma 3 that reads both ways write the window that it was read with, as transformers 5 does.

    Its config halves what config.json states, and transformers 4 writes the half: a folder that it saves would be read
    with a quarter.
    """
    from transformers import Gemma3TextConfig

    plain = Gemma3TextConfig.to_dict
    if "to_dict" in vars(Gemma3TextConfig):
        return

    def to_dict(self: Any) -> dict[str, Any]:
        stated: dict[str, Any] = plain(self)
        if self.use_bidirectional_attention:
            stated["sliding_window"] = 2 * (self.sliding_window - 1)
        return stated

    setattr(Gemma3TextConfig, "to_dict", to_dict)  # noqa: B010 - a method, which mypy lets nobody assign
