"""Words seen before give the ids that the tokenizer gives, for any text."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import sentences
from tokenizers import AddedToken, Tokenizer

from compressor.models.source import Source
from compressor.texts.corpus import TextSource, read_corpus
from exporters.runtime.words import WordTokenizer, _Known

_MADE_OF = [
    *(chr(c) for c in range(0x250)),
    *"\u2010\u2013\u2014\u2018\u2019\u201c\u201d\u201e\u2026\u20ac\u4e2d\u3042\u0301\u0130\ufffd\u200b\u00a0\u2028",
    *("the", "Cat", "don't", "[SEP]", "[MASK]", "[mask]", "##s", "_x_", "a" * 99, "b" * 101, "naïve", "Straße", " "),
]


def opened(path: Path, max_length: int = 64) -> tuple[WordTokenizer, Tokenizer]:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return WordTokenizer(tokenizer, max_length), tokenizer


def same(words: WordTokenizer, tokenizer: Tokenizer, texts: list[str]) -> None:
    for _ in range(2):  # words that are new, and words that are known
        for text, ids, wanted in zip(texts, words.encode(texts), tokenizer.encode_batch(texts), strict=True):
            assert ids == wanted.ids, text


def mixtures(count: int) -> list[str]:
    source = random.Random(0)
    return ["".join(source.choices(_MADE_OF, k=source.randint(0, 12))) for _ in range(count)]


@pytest.mark.parametrize("max_length", [2, 3, 8, 256])
def test_the_real_tokenizer(max_length: int, minilm: Source) -> None:
    words, tokenizer = opened(minilm.folder / "tokenizer.json", max_length)
    assert (words._around is None) == (max_length == 2)  # no word leaves anything to see
    same(words, tokenizer, ["", " ", "[CLS] a", "a [SEP]", "it's 3.5%", *mixtures(5000)])


def test_every_letter_and_mark(minilm: Source) -> None:
    """No character that is taken for part of a word, or for a word, is another thing to the tokenizer."""
    words, tokenizer = opened(minilm.folder / "tokenizer.json")
    same(words, tokenizer, [f"ab{chr(c)}cd {chr(c)}" for c in range(0x3100) if not 0xD800 <= c < 0xE000])


@pytest.mark.parametrize("change", [{"lowercase": False}, {"strip_accents": False}, {"strip_accents": True}])
def test_other_settings_of_the_normalizer(change: dict[str, bool], minilm: Source, tmp_path: Path) -> None:
    stated = json.loads((minilm.folder / "tokenizer.json").read_text("utf-8"))
    stated["normalizer"] |= change
    (tmp_path / "tokenizer.json").write_text(json.dumps(stated), "utf-8")
    words, tokenizer = opened(tmp_path / "tokenizer.json")
    assert words._around is not None
    same(words, tokenizer, mixtures(3000))


def test_real_texts(minilm: Source, shared: Path) -> None:
    words, tokenizer = opened(minilm.folder / "tokenizer.json", 256)
    texts = read_corpus(TextSource(str(shared / "corpus" / "en.txt.gz")), 20_000).train
    same(words, tokenizer, list(texts))
    assert 1000 < len(words._known) < 60_000


@pytest.mark.parametrize("family", ["roberta", "distilbert", "mpnet", "t5"])
def test_other_families(family: str, artifacts: Callable[..., Path]) -> None:
    words, tokenizer = opened(artifacts(family) / "fp32" / "tokenizer.json")
    same(words, tokenizer, [*sentences(50), *mixtures(500)])


def test_a_tokenizer_of_another_kind_is_left_to_itself(minilm: Source, tmp_path: Path) -> None:
    stated = json.loads((minilm.folder / "tokenizer.json").read_text("utf-8"))
    changes = [
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("normalizer", None),
        ("normalizer", stated["normalizer"] | {"clean_text": False}),
    ]
    for number, (name, value) in enumerate(changes):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(stated | {name: value}), "utf-8")
        words, tokenizer = opened(path)
        assert words._around is None
        same(words, tokenizer, mixtures(500))


@pytest.mark.parametrize("token", ["the cat", "É", "1st"])
def test_an_added_token_that_begins_as_words_do(token: str, minilm: Source) -> None:
    _, tokenizer = opened(minilm.folder / "tokenizer.json")
    tokenizer.add_tokens([AddedToken(token, normalized=True)])
    words = WordTokenizer(tokenizer, 64)
    assert words._around is None
    same(words, tokenizer, [f"See {token} 2", *mixtures(200)])


def test_words_do_not_gather_without_end(minilm: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.runtime.words._MOST", 50)
    words, tokenizer = opened(minilm.folder / "tokenizer.json")
    same(words, tokenizer, [f"w{i} " + "long" * 30 for i in range(500)])
    assert len(words._known) <= 50
    assert max(map(len, words._known)) <= 100
    assert isinstance(words._known, _Known)
    assert sys.getsizeof(words._known) < 1 << 16


@pytest.mark.parametrize("length", [2, 3, 9, 64])
def test_texts_are_cut_on_the_left_as_the_tokenizer_cuts_them(tiny: Path, length: int) -> None:
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length, direction="left")
    same(WordTokenizer(tokenizer, length), tokenizer, ["the cat sleeps . a big dog runs fast " * n for n in (1, 2, 9)])
