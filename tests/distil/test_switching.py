"""Texts are switched by the dictionary that alignment finds, the same way each time, and known words only."""

import pytest
from builders import WORDS, sentences
from foreign import FOREIGN, foreign

from compressor.distil.language.switching import Lexicon, Switched, lexicon
from compressor.texts.parallel import ParallelTexts

TEXTS = sentences(400, seed=5)


@pytest.fixture(scope="module")
def found() -> Lexicon:
    return lexicon(ParallelTexts.of([(text, foreign(text)) for text in TEXTS]))


def test_the_dictionary_of_a_tiny_language_is_found(found: Lexicon) -> None:
    words = [word for word in WORDS if word.isalpha()]
    likeliest = {word: found[word][0][0] for word in words if word in found}
    right = sum(likeliest.get(word) == FOREIGN[word] for word in words)
    assert right >= 0.95 * len(words)
    assert "." not in found


def test_shares_are_of_at_most_three_likely_translations(found: Lexicon) -> None:
    for word, (translations, shares) in found.items():
        assert len(translations) == len(shares) <= 3, word
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)


def test_a_word_of_two_translations_has_both() -> None:
    """Every other text has another word for cat."""
    pairs = [(text, foreign(text)) for text in TEXTS]
    other = [(a, b.replace("tacx", "zzz")) if i % 2 else (a, b) for i, (a, b) in enumerate(pairs)]
    translations, shares = lexicon(ParallelTexts.of(other))["cat"]
    assert set(translations) == {"tacx", "zzz"}
    assert min(shares) > 0.3


def test_a_word_seen_too_seldom_has_none() -> None:
    pairs = [(text, foreign(text)) for text in TEXTS]
    assert "rare" not in lexicon(ParallelTexts.of([*pairs, ("rare", "erarx")]))


def test_the_same_text_is_switched_the_same_way(found: Lexicon) -> None:
    one, other = Switched(TEXTS, found), Switched(TEXTS[::-1], found)
    assert list(one) == list(one) == list(other)[::-1]
    assert one[:5] == [one[i] for i in range(5)]
    assert one[-1] == one[len(TEXTS) - 1]
    assert len(one) == len(TEXTS)


def test_a_share_of_the_words_is_switched_for_their_translations(found: Lexicon) -> None:
    before = [word for text in TEXTS for word in text.split()]
    after = [word for text in Switched(TEXTS, found) for word in text.split()]
    assert len(after) == len(before)
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert len(changed) / len(before) == pytest.approx(0.4, abs=0.03)
    assert all(b in found[a][0] for a, b in changed)


@pytest.mark.parametrize(("share", "expected"), [(0.0, "the cat sees a zebra ."), (1.0, "ehtx tacx seesx ax zebra .")])
def test_only_known_words_are_switched(share: float, expected: str) -> None:
    known: Lexicon = {word: ([FOREIGN[word]], [1.0]) for word in WORDS if word != "."}
    assert Switched(["The cat sees a zebra."], known, share)[0] == expected
