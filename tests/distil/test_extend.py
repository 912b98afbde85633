"""New tokens are those that the translations need, and start as what they translate; old ones mean the same."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import WORDS, sentences
from sentence_transformers import SentenceTransformer
from tokenizers import models

from benchmarks.quality.translation import matching
from compressor.core.errors import RecipeError
from compressor.distil.language.alignment import align
from compressor.distil.language.extend import Initial, Vocabulary, extend_vocabulary, tokens_per_word
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.texts.parallel import ParallelTexts

_LETTERS = random.Random(7)
FOREIGN = {
    word: "." if word == "." else "".join(_LETTERS.choices("bdfgklmnprtvzaeiou", k=7)).capitalize() for word in WORDS
}
"""A language with a word for each of the tiny tokenizer's."""


def translated(text: str) -> str:
    """Return the words of ``text`` in the other language and the other order."""
    return " ".join(FOREIGN[word] for word in reversed(text.split()))


@pytest.fixture(scope="module")
def pairs() -> ParallelTexts:
    return ParallelTexts.of([(text, translated(text)) for text in sentences(600)])


@pytest.fixture(scope="module")
def extended(make_model: Callable[..., Path], pairs: ParallelTexts) -> dict[Initial, SentenceTransformer]:
    kinds: tuple[Initial, ...] = ("alignment", "pieces", "random")
    return {kind: extend_vocabulary(open_model(make_model()), pairs, 300, kind) for kind in kinds}


def table(model: SentenceTransformer) -> torch.Tensor:
    weights: torch.Tensor = transformer_of(model).get_input_embeddings().weight.detach()
    return weights


def test_words_that_translate_each_other_are_linked() -> None:
    # 1 is 11, 2 is 12, 3 is 13; 0 is everywhere and has no translation.
    sources = [[0, 1, 2], [0, 2, 3], [3, 1], [0, 1], [0, 3, 2], [2]]
    translations = [[12, 11], [13, 12], [11, 13], [11], [12, 13], [12]]
    counts = align(sources, translations, 14).toarray()
    assert counts[11:].argmax(axis=1).tolist() == [1, 2, 3]
    assert (counts[11:].max(axis=1) / counts[11:].sum(axis=1)).min() > 0.8
    assert counts[:11].sum() == 0


def test_the_first_rounds_of_model_1_on_a_known_example(monkeypatch: pytest.MonkeyPatch) -> None:
    # "the house" / "das Haus", "the book" / "das Buch" (Koehn 2010, figure 4.4): after one round t(das | the) = 0.5,
    # t(Haus | the) = 0.25, t(Haus | house) = 0.5, so in the second round Haus belongs to house by 0.5 / 0.75.
    monkeypatch.setattr("compressor.distil.language.alignment._ROUNDS", 2)
    counts = align([[0, 1], [0, 2]], [[3, 4], [3, 5]], 6).toarray()
    assert counts[4, 1] == pytest.approx((2 / 3) ** 2)
    assert counts[4, 0] == pytest.approx(1 / 3 * 1 / 2)  # the article itself is torn between das and Haus
    assert counts[3, 0] == pytest.approx(2 * (1 / 2) ** 2)


def test_what_is_beyond_the_limit_of_memory_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.distil.language.alignment.MAX_LINKS", 7)
    counts = align([[0, 1], [2, 3], [4]], [[5, 6], [7], [8, 9]], 10).toarray()
    assert counts.sum(axis=0).nonzero()[0].tolist() == [0, 1, 2, 3]


def test_new_tokens_start_as_what_they_translate(extended: dict[Initial, SentenceTransformer]) -> None:
    ids, weights = extended["alignment"].tokenizer.get_vocab(), table(extended["alignment"])
    rows = {word: weights[ids[other.lower()]] for word, other in FOREIGN.items() if other.lower() in ids}
    assert len(rows) > 0.9 * len(FOREIGN)
    cosine = [float(torch.cosine_similarity(row, weights[ids[word]], dim=0)) for word, row in rows.items()]
    assert np.mean(cosine) > 0.95


def test_translations_are_found_by_alignment_alone(
    extended: dict[Initial, SentenceTransformer], pairs: ParallelTexts
) -> None:
    found = {
        kind: matching(TorchEncoder(model), pairs.sources[:100], pairs.translations[:100])["source_to_translation"]
        for kind, model in extended.items()
    }
    assert found["alignment"] > max(found["pieces"], found["random"]) + 0.3, found


def test_a_rare_token_stays_near_its_pieces(tiny: Path, pairs: ParallelTexts) -> None:
    # A word of two sentences, among the same companions: little is known of it.
    odd = ParallelTexts.of(
        [
            *zip(pairs.sources, pairs.translations, strict=True),
            ("cat dog", f"Xyzzyq {FOREIGN['dog']}"),
            ("cat bird", f"Xyzzyq {FOREIGN['bird']}"),
        ]
    )
    made: dict[str, torch.Tensor] = {}
    for kind in ("alignment", "pieces"):
        model = extend_vocabulary(open_model(tiny), odd, 400, kind)
        ids = model.tokenizer.get_vocab()
        made[kind], cat = table(model)[ids["xyzzyq"]], table(model)[ids["cat"]]
    halfway = (cat + made["pieces"]) / 2
    assert torch.cosine_similarity(made["alignment"], halfway, dim=0) > 0.9


def test_pieces_are_the_mean_of_the_old_ones(extended: dict[Initial, SentenceTransformer]) -> None:
    ids, weights = extended["pieces"].tokenizer.get_vocab(), table(extended["pieces"])
    word = FOREIGN["cat"].lower()
    old = [ids[word[0]], *(ids[f"##{letter}"] for letter in word[1:])]
    assert torch.allclose(weights[ids[word]], weights[old].mean(dim=0), atol=1e-6)


def test_old_tokens_are_left_as_they_are(tiny: Path, extended: dict[Initial, SentenceTransformer]) -> None:
    before = open_model(tiny)
    for model in extended.values():
        assert torch.equal(table(model)[: len(before.tokenizer)], table(before))
        assert {**model.tokenizer.get_vocab(), **before.tokenizer.get_vocab()} == model.tokenizer.get_vocab()
    texts = sentences(50, seed=3)
    assert np.array_equal(TorchEncoder(before).encode(texts), TorchEncoder(extended["random"]).encode(texts))
    assert len(before.tokenizer) == len(open_model(tiny).tokenizer)


def test_the_size_is_kept_and_stated(extended: dict[Initial, SentenceTransformer], tiny: Path) -> None:
    old, model = len(open_model(tiny).tokenizer), extended["alignment"]
    assert old < len(model.tokenizer) <= old + 300
    assert transformer_of(model).config.vocab_size == len(table(model)) == len(model.tokenizer)
    small = extend_vocabulary(open_model(tiny), ParallelTexts.of([("a cat", "Ein Kater")] * 20), 10)
    assert old < len(small.tokenizer) <= old + 10


def test_the_section_of_a_recipe_does_the_same(
    extended: dict[Initial, SentenceTransformer], pairs: ParallelTexts, tiny: Path
) -> None:
    model = Vocabulary.read({"tokens": 300, "initial": "pieces"}).extend(open_model(tiny), pairs)
    assert torch.equal(table(model), table(extended["pieces"]))
    assert len(Vocabulary.read({"tokens": 0}).extend(open_model(tiny), pairs).tokenizer) == len(
        open_model(tiny).tokenizer
    )
    with pytest.raises(RecipeError, match=r"^options: tokens = -1: input should be greater than or equal to 0$"):
        Vocabulary.read({"tokens": -1})


def test_only_tokens_that_are_used_are_added(
    extended: dict[Initial, SentenceTransformer], pairs: ParallelTexts, tiny: Path
) -> None:
    model = extended["alignment"]
    used = {i for ids in model.tokenizer(list(pairs.translations))["input_ids"] for i in ids}
    assert set(range(len(open_model(tiny).tokenizer), len(model.tokenizer))) <= used


def test_the_new_language_takes_fewer_tokens(
    extended: dict[Initial, SentenceTransformer], pairs: ParallelTexts, tiny: Path
) -> None:
    before = open_model(tiny)
    assert tokens_per_word(before, pairs.sources) == 1.0
    assert tokens_per_word(before, pairs.translations) == 7.0
    assert tokens_per_word(extended["alignment"], pairs.translations) == 1.0
    assert tokens_per_word(before, [". . ."]) == 0.0


def test_capitals_and_accents_are_kept_as_the_teacher_keeps_them(tiny: Path) -> None:
    pairs = ParallelTexts.of([("a small cat", "Eine KÜHLE Tür")] * 20)
    model = extend_vocabulary(open_model(tiny), pairs, 30)
    assert model.tokenizer.tokenize("Kühle TÜR") == ["kuhle", "tur"]
    assert not [token for token in model.tokenizer.get_vocab() if token != token.lower() and token[0] != "["]


def test_a_saved_folder_opens_the_same(
    extended: dict[Initial, SentenceTransformer], pairs: ParallelTexts, tmp_path: Path
) -> None:
    model, texts = extended["alignment"], list(pairs.translations[:50])
    model.save_pretrained(str(tmp_path / "student"), create_model_card=False)
    plain = SentenceTransformer(str(tmp_path / "student"), device="cpu", local_files_only=True)
    assert plain.tokenizer.get_vocab() == model.tokenizer.get_vocab()
    assert plain.tokenizer(texts)["input_ids"] == model.tokenizer(texts)["input_ids"]
    assert np.allclose(TorchEncoder(plain).encode(texts), TorchEncoder(model).encode(texts), atol=1e-6)


def test_other_tokenizers_are_refused(tiny: Path, pairs: ParallelTexts) -> None:
    model = open_model(tiny)
    model.tokenizer.backend_tokenizer.model = models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0)
    with pytest.raises(RecipeError) as caught:
        extend_vocabulary(model, pairs, 100)
    message = "vocabulary: a Unigram tokenizer cannot be extended, only WordPiece; leave the section out"
    assert str(caught.value) == message


def test_texts_that_are_covered_are_refused(tiny: Path) -> None:
    covered = ParallelTexts.of([(text, text + " cat") for text in sentences(50)])
    with pytest.raises(RecipeError) as caught:
        extend_vocabulary(open_model(tiny), covered, 100)
    assert str(caught.value) == "vocabulary of 100 more tokens: the translations hold no word that is not covered"
