"""Texts with some words replaced by their translations: a new language in wider company than parallel texts have."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from compressor.distil.language.alignment import ALIGNED_PAIRS, align
from compressor.texts.parallel import ParallelTexts

_WORD = re.compile(r"\w+|[^\w\s]")
_LEAST_LINKS = 1.5
_LEAST_SHARE = 0.2  # of a word's links that a translation must have
_MOST = 3

Lexicon = dict[str, tuple[list[str], list[float]]]


def lexicon(pairs: ParallelTexts) -> Lexicon:
    """Return the likely translations of the sources' words and their shares, from word alignment (see ``align``)."""
    numbers: dict[tuple[str, str], int] = {}

    def words(side: str, text: str) -> list[int]:
        return [numbers.setdefault((side, word), len(numbers)) for word in _WORD.findall(text.lower())]

    sources = [words("source", text) for text in pairs.sources[:ALIGNED_PAIRS]]
    translations = [words("translation", text) for text in pairs.translations[:ALIGNED_PAIRS]]
    links = align(sources, translations, len(numbers)).T.tocsr()
    names = [word for _, word in numbers]
    found: Lexicon = {}
    for (side, word), number in numbers.items():
        row = links.getrow(number)
        total = float(row.data.sum())
        if side == "source" and word.isalpha() and total >= _LEAST_LINKS:
            best = [i for i in np.argsort(-row.data)[:_MOST] if row.data[i] > _LEAST_SHARE * total]
            weight = float(row.data[best].sum()) if best else 0.0
            if weight:
                found[word] = ([names[row.indices[i]] for i in best], [float(row.data[i]) / weight for i in best])
    return found


class Switched(Sequence[str]):
    """``texts`` with a share of their known words translated, the same ones each time.

    Code-switched training (Qin et al. 2020, arXiv:2006.06402): the teacher's vector of the text as it was is the
    vector of the text switched.
    """

    def __init__(self, texts: Sequence[str], words: Lexicon, share: float = 0.4) -> None:
        self.texts, self.words, self.share = texts, words, share

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        text = self.texts[index]
        random = np.random.default_rng(list(hashlib.blake2b(text.encode(), digest_size=8).digest()))
        return " ".join(self._word(word, random) for word in _WORD.findall(text.lower()))

    def _word(self, word: str, random: np.random.Generator) -> str:
        draw = random.random()
        if word not in self.words or draw >= self.share:
            return word
        translations, shares = self.words[word]
        return str(random.choice(translations, p=shares))
