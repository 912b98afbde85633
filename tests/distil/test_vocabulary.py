"""A trimmed vocabulary keeps what the texts use, and spells the rest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import SPECIAL, WORDS, sentences
from families import random_encoder
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.vocabulary import trim_vocabulary
from compressor.distil.student.words.usage import Usage, kept_tokens, spelt_share, token_counts
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of

USED = WORDS[:10]
TEXTS = [" ".join(USED[i : i + 4]) for i in range(7)] * 3
LETTERS = [chr(c) for c in range(97, 123)]


def saved(model: SentenceTransformer, folder: Path) -> SentenceTransformer:
    model.save_pretrained(str(folder), create_model_card=False)
    return open_model(folder)


def names(tokens: Any, special: list[str]) -> dict[str, Any]:
    tokens.post_processor = processors.RobertaProcessing(("[SEP]", special.index("[SEP]")), ("[CLS]", 2))
    roles = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return {"tokenizer_object": tokens, "model_max_length": 64} | dict(zip(roles, special, strict=True))


def unigram() -> PreTrainedTokenizerFast:
    pieces = [*SPECIAL, "\u2581", *LETTERS, *(f"\u2581{word}" for word in WORDS)]
    scores = [(piece, -float(40 - len(piece)) if len(piece) > 1 else -30.0) for piece in pieces]
    tokens = Tokenizer(models.Unigram(scores, unk_id=1))
    tokens.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(**names(tokens, SPECIAL))


def bpe() -> PreTrainedTokenizerFast:
    """Return a BPE whose words are merged from the left, a letter at a time."""
    merges = dict.fromkeys((word[:i], word[i]) for word in WORDS for i in range(1, len(word)))
    pieces = dict.fromkeys([*SPECIAL, ".", *LETTERS, *(left + right for left, right in merges)])
    tokens = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, list(merges), unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(**names(tokens, SPECIAL))


def test_the_most_used_tokens_stay(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    characters = [token for token in model.tokenizer.get_vocab() if len(token.removeprefix("##")) == 1]
    size = len({*SPECIAL, *characters, *USED})
    student = trim_vocabulary(model, TEXTS, size)
    assert set(student.tokenizer.get_vocab()) == {*SPECIAL, *characters, *USED}
    assert (
        len(transformer_of(student).get_input_embeddings().weight) == transformer_of(student).config.vocab_size == size
    )
    again = saved(student, tmp_path / "student")
    assert again.tokenizer.get_vocab() == student.tokenizer.get_vocab()
    np.testing.assert_array_equal(TorchEncoder(again).encode(TEXTS), TorchEncoder(model).encode(TEXTS))
    assert again.tokenizer.tokenize("the river") == ["the", "r", "##i", "##v", "##e", "##r"]
    assert len(model.tokenizer.get_vocab()) == transformer_of(model).config.vocab_size > size


@pytest.mark.parametrize(
    ("words", "used", "spelt"),
    [
        (unigram, 7, ["\u2581", *"river"]),  # a piece a word: one two three cat dog bird man
        (bpe, 17, [*"river"]),  # and all that each is merged from
    ],
)
def test_other_kinds_of_tokenizer(words: Any, used: int, spelt: list[str], tmp_path: Path) -> None:
    model = random_encoder("Bert", words(), tmp_path / "model")
    always = sum(len(token.removeprefix("\u2581")) <= 1 for token in model.tokenizer.get_vocab()) + len(SPECIAL)
    texts = [text for text in TEXTS if "cat" in text]
    student = saved(trim_vocabulary(model, texts, always + used), tmp_path / "student")
    np.testing.assert_allclose(TorchEncoder(student).encode(texts), TorchEncoder(model).encode(texts), atol=1e-6)
    assert model.tokenizer.tokenize("river")[-1].endswith("river")
    assert student.tokenizer.tokenize("river") == spelt
    assert len(student.tokenizer) == always + used
    assert np.isfinite(TorchEncoder(student).encode(sentences(20))).all()


@pytest.mark.parametrize("size", [20, 1000])
def test_sizes_that_cannot_be(tiny: Path, size: int) -> None:
    with pytest.raises(RecipeError) as caught:
        trim_vocabulary(open_model(tiny), TEXTS, size)
    most = len(open_model(tiny).tokenizer)
    allowed = f"58 (special tokens and single characters) to {most}"
    assert str(caught.value) == f"distil.vocabulary = {size}: must be {allowed}"


def test_a_kind_without_smaller_pieces_is_refused(tmp_path: Path) -> None:
    tokens = Tokenizer(models.WordLevel({token: i for i, token in enumerate([*SPECIAL, *WORDS])}, unk_token="[UNK]"))
    model = random_encoder("Bert", PreTrainedTokenizerFast(**names(tokens, SPECIAL)), tmp_path / "model")
    with pytest.raises(RecipeError) as caught:
        trim_vocabulary(model, TEXTS, 20)
    assert str(caught.value) == (
        "distil.vocabulary = 20: a tokenizer of kind WordLevel; wanted WordPiece, Unigram or BPE"
    )


def test_the_id_of_the_padding_must_stay(tmp_path: Path) -> None:
    order = ["early", *SPECIAL]
    tokens = Tokenizer(models.BPE({t: i for i, t in enumerate([*order, *LETTERS])}, [], unk_token="[UNK]"))
    words = PreTrainedTokenizerFast(tokenizer_object=tokens, pad_token="[PAD]", unk_token="[UNK]")
    model = random_encoder("Bert", words, tmp_path / "model")
    with pytest.raises(ModelError) as caught:
        trim_vocabulary(model, ["a b"], len(LETTERS) + 2)
    assert str(caught.value) == "[PAD]: the padding's id 1 would change; keep the vocabulary"


def test_no_word_is_lost(tiny: Path) -> None:
    model = open_model(tiny)
    student = trim_vocabulary(model, TEXTS, 60)
    words = [*WORDS, *("".join(pair) for pair in zip(WORDS, reversed(WORDS), strict=True)), "zebra", "é", "cat!"]
    lost = {word for word in words if "[UNK]" in model.tokenizer.tokenize(word)}
    assert lost, "some were lost before"
    assert {word for word in words if "[UNK]" in student.tokenizer.tokenize(word)} == lost


def test_a_token_that_cannot_be_spelt_is_refused(tmp_path: Path) -> None:
    pieces = {token: i for i, token in enumerate([*SPECIAL, "a", "##a", "b", "##c", "bac", "abc"])}
    tokens = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    model = random_encoder("Bert", PreTrainedTokenizerFast(**names(tokens, SPECIAL)), tmp_path / "model")
    with pytest.raises(RecipeError) as caught:
        trim_vocabulary(model, ["a b"], 10)
    assert str(caught.value) == (
        "distil.vocabulary = 10: 'abc' cannot be spelt, '##b' is no token, and words would be lost; leave it out"
    )


def test_what_falls_out_is_counted(tiny: Path) -> None:
    model = open_model(tiny)
    state = json.loads(model.tokenizer.backend_tokenizer.to_str())
    counts = token_counts(model, TEXTS)
    kept = kept_tokens(state, counts, 60)
    student = trim_vocabulary(model, TEXTS, 60)
    ids = [i for text in TEXTS for i in model.tokenizer(text)["input_ids"]]
    assert counts.sum() == len(ids)
    assert spelt_share(counts, kept) == pytest.approx(sum(i not in kept for i in ids) / len(ids))
    names_kept = {model.tokenizer.convert_ids_to_tokens(i) for i in kept}
    assert names_kept == set(student.tokenizer.get_vocab())
    usage = Usage.of(state, counts)
    assert usage.least == 58
    assert usage.share(usage.sizes[-1]) == 0 < usage.share(70) < usage.share(58) == usage.shares[0]
