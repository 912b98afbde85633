"""Tiny models: random weights, a real tokenizer, real folders; and sentences of the words that they know."""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

_WORDS = (
    "the a one two three cat dog bird man woman child house tree river road city sleeps runs eats sees plays walks "
    "red green blue small big old new fast slow quietly today here there and or but with under over near ."
)
WORDS = _WORDS.split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Return distinct sentences of 4 to 12 of the tiny tokenizer's words."""
    import random

    source, made = random.Random(seed), dict[str, None]()
    while len(made) < count:
        made[" ".join(source.choices(WORDS, k=source.randint(4, 12)))] = None
    return list(made)


def word_pieces(special: list[str], unknown: str) -> Tokenizer:
    """Return a WordPiece tokenizer of the special tokens, the words above and letters, ids in that order."""
    letters = [chr(c) for c in range(97, 123)] + [f"##{chr(c)}" for c in range(97, 123)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *WORDS, *letters]))}
    tokens = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokens.normalizer = normalizers.BertNormalizer()
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokens


def tokenizer() -> PreTrainedTokenizerFast:
    """Return BERT's kind of tokenizer."""
    tokens = word_pieces(SPECIAL, "[UNK]")
    tokens.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )


def build(
    folder: Path,
    pooling: str = "mean",
    dense: int | None = None,
    normalize: bool = True,
    layers: int = 4,
    width: int = 32,
    seed: int = 0,
    activation: str = "Tanh",
) -> Path:
    """Write a random BERT encoder as a sentence-transformers folder and return the folder."""
    torch.manual_seed(seed)
    words = tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=64,
        initializer_range=0.2,  # layers that differ enough for a lost one to show
    )
    raw = folder.parent / f"{folder.name}-raw"
    BertModel(config).save_pretrained(raw)
    words.save_pretrained(raw)
    modules: list[Any] = [Transformer(str(raw), max_seq_length=64), Pooling(width, pooling_mode=pooling)]
    if dense:
        modules.append(Dense(width, dense, activation_function=getattr(torch.nn, activation)()))
    if normalize:
        modules.append(Normalize())
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder
