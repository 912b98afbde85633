"""Random transformers of several families, three layers deep and too small to matter."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

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
    "Qwen3": _SIZES | {"num_key_value_heads": 1, "head_dim": 8, "initializer_range": 0.2},
    "Gemma3Text": _SIZES
    | {"num_key_value_heads": 1, "head_dim": 8, "initializer_range": 0.2}
    | {"use_bidirectional_attention": True, "sliding_window": 8},
    "GPT2": {"vocab_size": 60, "n_embd": 16, "n_layer": LAYERS, "n_head": 2, "n_positions": 40},
}


def random_transformer(family: str, **options: Any) -> Any:
    """Return a random model of ``family``, as transformers spells it, in evaluation mode; ``options`` of its config."""
    torch.manual_seed(0)
    if not hasattr(transformers, f"{family}Config"):
        pytest.skip(f"transformers {transformers.__version__} has no {family}")
    config = getattr(transformers, f"{family}Config")(**_OWN.get(family, _SIZES) | options)
    model: Callable[..., Any] = getattr(transformers, "T5EncoderModel" if family == "T5" else f"{family}Model")
    return model(config).eval()


def random_decoder(family: str, words: Any, folder: Path, pooling: str = "lasttoken", **options: Any) -> Path:
    """Write a random decoder of ``family`` as a sentence-transformers model with prompts, and return its folder."""
    raw = folder.parent / f"{folder.name}-raw"
    random_transformer(family, vocab_size=len(words), pad_token_id=0, **options).save_pretrained(raw)
    words.model_input_names = ["input_ids", "attention_mask"]
    words.save_pretrained(raw)
    modules: list[Any] = [Transformer(str(raw), max_seq_length=32), Pooling(16, pooling_mode=pooling), Normalize()]
    prompts = {"query": "see the : ", "document": ""}
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def random_encoder(family: str, words: Any, folder: Path, **options: Any) -> SentenceTransformer:
    """Return a random sentence-transformers model of ``family`` with the tokenizer ``words`` and mean pooling."""
    transformer = random_transformer(family, vocab_size=len(words), **options)
    transformer.save_pretrained(folder)
    reads = inspect.signature(transformer.forward).parameters
    words.model_input_names = [name for name in words.model_input_names if name in reads]
    words.save_pretrained(folder)
    modules = [Transformer(str(folder), max_seq_length=32), Pooling(transformer.config.hidden_size), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu").eval()
