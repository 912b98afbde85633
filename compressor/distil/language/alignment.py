"""Word alignment: which tokens of a text stand for which tokens of its translation."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

ALIGNED_PAIRS = 100_000
"""Pairs to align, at most: each word worth knowing is in many of them, and memory stays bounded."""
MAX_LINKS = 20_000_000
"""Pairs of positions looked at; what comes after is left out, so that memory stays below 1 GiB."""
_ROUNDS = 6

Ids = NDArray[np.int64]


def align(sources: Sequence[Sequence[int]], translations: Sequence[Sequence[int]], vocabulary: int) -> csr_matrix:
    """Count how often a token of the translations stands for a token of the sources.

    Returns expected counts, float64 [vocabulary, vocabulary], rows the translations' tokens and columns the
    sources'. IBM Model 1 (Brown et al. 1993, J93-2003) is trained by EM in either direction; a link counts as
    much as both believe in it (Liang et al. 2006, N06-1014), so that frequent words do not collect rare ones.
    """
    links = _Links.of(sources, translations, vocabulary)
    forward = _posterior(links, links.translation_at, links.pair // vocabulary, links.pair % vocabulary)
    backward = _posterior(links, links.source_at, links.pair % vocabulary, links.pair // vocabulary)
    counts = np.bincount(links.kind, forward * backward, minlength=len(links.pair))
    cells = (links.pair // vocabulary, links.pair % vocabulary)
    return csr_matrix((counts, cells), shape=(vocabulary, vocabulary))


@dataclass(frozen=True)
class _Links:
    """All pairs of positions that lie in the two texts of one pair."""

    source_at: Ids
    """[links], number of the source's position, counted through all texts."""
    translation_at: Ids
    """[links], likewise in the translations."""
    kind: Ids
    """[links], index into ``pair``."""
    pair: Ids
    """Distinct pairs of tokens, translation * vocabulary + source, in order."""

    @classmethod
    def of(cls, sources: Sequence[Sequence[int]], translations: Sequence[Sequence[int]], vocabulary: int) -> "_Links":
        wide = np.array([len(ids) for ids in sources], np.int64)
        high = np.array([len(ids) for ids in translations], np.int64)
        kept = int(np.searchsorted(np.cumsum(wide * high), MAX_LINKS, side="right"))
        wide, high = wide[:kept], high[:kept]
        text = np.repeat(np.arange(kept), wide * high)
        place = np.arange(len(text)) - np.repeat(np.cumsum(wide * high) - wide * high, wide * high)
        source_at = (np.cumsum(wide) - wide)[text] + place % wide[text]
        translation_at = (np.cumsum(high) - high)[text] + place // wide[text]
        tokens = _flat(translations[:kept])[translation_at] * vocabulary + _flat(sources[:kept])[source_at]
        pair, kind = np.unique(tokens, return_inverse=True)
        return cls(source_at, translation_at, kind, pair)


def _flat(texts: Sequence[Sequence[int]]) -> Ids:
    return np.fromiter(chain.from_iterable(texts), np.int64)


def _posterior(links: _Links, at: Ids, made: Ids, maker: Ids) -> NDArray[np.float64]:
    """Return for each link the chance that the position ``at`` was made by the other side's, [links].

    ``made`` and ``maker`` are the tokens of each distinct pair.
    """
    chance = 1.0 / np.bincount(made)[made]
    for _ in range(_ROUNDS):
        weight = chance[links.kind]
        share = weight / np.bincount(at, weight)[at]
        counts = np.bincount(links.kind, share, minlength=len(links.pair))
        chance = counts / np.bincount(maker, counts)[maker]
    return share
