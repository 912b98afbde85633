"""Find the layers to keep by trying them."""

import copy
from collections.abc import Sequence
from itertools import combinations
from math import comb

import torch
from sentence_transformers import SentenceTransformer

from compressor.core.errors import TextError
from compressor.core.progress import track
from compressor.distil.student.layers import first_differs, restack
from compressor.models.sentence_model import TorchEncoder, transformer_of
from compressor.vectors.pca import pair_correlation

_TEXTS = 400
_TRIED = 120  # sets of layers tried all; beyond, layers are dropped one at a time


def search_layers(teacher: SentenceTransformer, count: int, texts: Sequence[str]) -> tuple[int, ...]:
    """Return the ``count`` layers whose untrained student ranks pairs of texts most as the teacher does.

    All sets are tried where there are few, else the layer whose loss costs least is dropped again and again
    (as Sajjad et al. 2023, arXiv:2004.03844, drop layers by their worth). Judged by ``pair_correlation`` on
    the first texts. Raises TextError for fewer than two texts.
    """
    sample = list(texts[:_TEXTS])
    if len(sample) < 2:
        raise TextError(f"{len(sample)} texts are too few to search layers with; at least 2 are needed")
    model = copy.deepcopy(teacher)
    stack = list(restack(transformer_of(model), None))
    wanted = TorchEncoder(teacher).encode(sample)
    scores: dict[tuple[int, ...], float] = {}

    def score(kept: tuple[int, ...]) -> float:
        if kept not in scores:
            restack(transformer_of(model), [(i, stack[i]) for i in kept])
            with torch.inference_mode():
                scores[kept] = pair_correlation(wanted, TorchEncoder(model).encode(sample))
            advance(1)
        return scores[kept]

    depth = len(stack)
    first = 1 if first_differs(transformer_of(teacher)) else 0  # such a layer stays the first
    drops = [list(range(first, n)) for n in range(depth, count, -1)]
    exhaustive = comb(depth - first, count - first) <= _TRIED
    with track("layers", comb(depth - first, count - first) if exhaustive else sum(map(len, drops)), "sets") as advance:
        if exhaustive:
            rest = combinations(range(first, depth), count - first)
            return max((tuple(range(first)) + kept for kept in rest), key=score)
        kept = tuple(range(depth))
        for places in drops:
            kept = max((kept[:i] + kept[i + 1 :] for i in places), key=score)
    return kept
