"""Random transformers of several families, three layers deep and too small to matter."""

from collections.abc import Callable
from typing import Any

import torch
import transformers

LAYERS = 3
_SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
_OWN: dict[str, dict[str, Any]] = {
    "DistilBert": {"vocab_size": 60, "dim": 16, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 32},
    "Electra": _SIZES | {"embedding_size": 8},
    "Albert": _SIZES | {"embedding_size": 8},
    "ModernBert": _SIZES | {f"{token}_token_id": 0 for token in ("pad", "bos", "eos", "cls", "sep")},
    "XLM": {"vocab_size": 60, "emb_dim": 16, "n_layers": LAYERS, "n_heads": 2, "max_position_embeddings": 40},
    "T5": {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": LAYERS, "num_heads": 2},
    "GPT2": {"vocab_size": 60, "n_embd": 16, "n_layer": LAYERS, "n_head": 2, "n_positions": 40},
}


def random_transformer(family: str) -> Any:
    """Return a random model of ``family``, as transformers spells it, in evaluation mode."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**_OWN.get(family, _SIZES))
    model: Callable[..., Any] = getattr(transformers, "T5EncoderModel" if family == "T5" else f"{family}Model")
    return model(config).eval()
