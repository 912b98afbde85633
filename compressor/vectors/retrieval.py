"""Retrieval: what a model finds in a collection that people judged, and what of the teacher's ranking it keeps.

Figures are those of ``ir-measures`` (MacAvaney et al. 2022, arXiv:2111.13466), times 100: nDCG@10, recall at 1, 10 and
100, and the reciprocal rank of the first relevant document among 10.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from compressor.core.encoder import Vectors
from compressor.core.errors import TextError, installed
from compressor.models.agreement import Heldout, normalized
from compressor.models.projection import Projection
from compressor.texts.collections import Collection, Judged

MEASURES = {
    "ndcg_at_10": "nDCG@10",
    "recall_at_1": "R@1",
    "recall_at_10": "R@10",
    "recall_at_100": "R@100",
    "mrr_at_10": "RR@10",
}
"""Our names of the figures, and ir-measures'."""
FIGURE: Final = "ndcg_at_10"
"""The one figure that stands for retrieval."""
_DEPTH = 100  # documents of a ranking that are looked at
_CANDIDATES = 400  # documents that are ordered again, four for each that is looked at
_TOP = 10  # of the teacher's ranking, the documents that are to be found
_BLOCK = 256  # queries compared with all documents at a time
_BATCH = 32
_QUERIES = 500  # held-out texts that search the others, at most

Sides = tuple[Vectors, Vectors]
"""Vectors of queries and of documents, float32 [n, dim] each."""
Role = Literal["query", "document"]
Ranked = tuple[NDArray[np.intp], Vectors]
"""Numbers of the nearest documents of each query, nearest first, and their cosines: [queries, depth]."""


class Found(TypedDict):
    """What is found in a collection: the figures of MEASURES, 0 to 100."""

    ndcg_at_10: float
    recall_at_1: float
    recall_at_10: float
    recall_at_100: float
    mrr_at_10: float
    on_teachers_index: NotRequired["Found"]
    """By the same queries among the teacher's vectors of the documents."""
    rescored: NotRequired["Found"]
    """By codes of the documents that are ordered again by the queries' vectors in full."""


def sides(encoder: Any, collection: Collection) -> Sides:
    """Return the vectors of a collection's queries and documents, in its order, each side behind its own prompt."""
    return (
        np.asarray(encoder_for(encoder, "query")(list(collection.queries.values()), _BATCH), np.float32),
        np.asarray(encoder_for(encoder, "document")(list(collection.documents.values()), _BATCH), np.float32),
    )


def encoder_for(encoder: Any, role: Role) -> Callable[[list[str], int], Vectors]:
    """Return what encodes texts of a role: with the prompt for it, where the model's class knows of roles."""
    by: Callable[[list[str], int], Vectors] = getattr(encoder, f"encode_{role}", encoder.encode)
    return by


def retrieval(
    collection: Collection, queries: Vectors, documents: Vectors, rescored_by: Vectors | None = None
) -> Found:
    """Return the figures of an exact search by cosine, 0 to 100; vectors are in the collection's order.

    ``rescored_by``: the queries' vectors in full, by which the 400 nearest documents of quantized ``queries`` are
    ordered again (Yamada et al. 2021, arXiv:2106.00882), as sentence-transformers' ``semantic_search_faiss`` does it.
    """
    numbers, scores = nearest(queries, documents, min(_DEPTH if rescored_by is None else _CANDIDATES, len(documents)))
    if rescored_by is not None:
        numbers, scores = _rescored(rescored_by, documents, numbers)
    names = list(collection.documents)
    run = {
        query: {names[int(i)]: float(score) for i, score in zip(row, near, strict=True)}
        for query, row, near in zip(collection.queries, numbers, scores, strict=True)
    }
    return _figures(collection.judged, run)


@dataclass(frozen=True)
class Searches:
    """Collections that models are measured on, one after the other: the teacher first, whose index stays."""

    collections: Sequence[Collection] = ()
    index: dict[str, Vectors] = field(default_factory=dict)
    """The teacher's vectors of the documents, float32 [documents, width], by the collection's name."""
    teacher: dict[str, Found] = field(default_factory=dict)
    """What the teacher finds in its index, by the collection's name."""

    def figures(self, encoder: Any, projection: Projection | None = None) -> dict[str, Found]:
        """Return a model's figures by collection, and as ``on_teachers_index`` those of its queries on that.

        Vectors that ``projection`` reduced search the index that it reduces; others that are not as long as the
        teacher's have no such figures.
        """
        return {collection.name: self._of(collection, encoder, projection) for collection in self.collections}

    def of(self, name: str, encoder: Any, projection: Projection | None = None) -> dict[str, Found]:
        """Return the figures of a model by its name; those of the ``teacher`` are measured once."""
        return self.teacher if name == "teacher" and self.teacher else self.figures(encoder, projection)

    def found(self, encoder: Any) -> dict[str, float]:
        """Return what a model finds by itself, nDCG@10 x 100 by collection."""
        return {own.name: retrieval(own, *sides(encoder, own))[FIGURE] for own in self.collections}

    def _of(self, collection: Collection, encoder: Any, projection: Projection | None) -> Found:
        queries, documents = sides(encoder, collection)
        figures = retrieval(collection, queries, documents)
        if collection.name not in self.index:
            self.index[collection.name], self.teacher[collection.name] = documents, figures
            return figures
        index = self.index[collection.name]
        if projection is not None and projection.width != index.shape[1]:
            return figures  # it is of another teacher
        if projection is not None:
            index = projection.apply(index)
        if index.shape[1] == queries.shape[1]:
            figures["on_teachers_index"] = retrieval(collection, queries, index)
        return figures


def as_ranked_by(teacher: Sides, own: Sides, same: bool = False) -> float:
    """Return how a model ranks documents as its teacher does: nDCG@10 x 100, where the teacher's ten nearest are worth
    10 for the first to 1 for the tenth, and all others nothing.

    Each side is queries and documents, float32 [n, dim], of the same texts in the same order; without a judged set,
    this is the figure of retrieval. ``same``: the queries are the first of the documents, and do not find themselves.
    Raises TextError for fewer than eleven documents.
    """
    count = len(teacher[1])
    if count <= _TOP:
        raise TextError(f"{count} documents are too few to rank {_TOP} of; at least {_TOP + 1} are needed")
    wanted, _ = nearest(*teacher, _TOP, same)
    found, scores = nearest(*own, _TOP, same)
    judged = {str(q): {str(d): _TOP - rank for rank, d in enumerate(row)} for q, row in enumerate(wanted.tolist())}
    run = {
        str(q): {str(d): score for d, score in zip(row, near, strict=True)}
        for q, (row, near) in enumerate(zip(found.tolist(), scores.tolist(), strict=True))
    }
    return _figures(judged, run)[FIGURE]


def ranking_kept(heldout: Heldout, vectors: Vectors) -> float:
    """Return how a model ranks held-out texts by some of them as its teacher does (``as_ranked_by``), 0 to 100."""
    count = min(_QUERIES, len(vectors))
    return as_ranked_by((heldout.teacher[:count], heldout.teacher), (vectors[:count], vectors), same=True)


def nearest(queries: Vectors, documents: Vectors, count: int, same: bool = False) -> Ranked:
    """Return the ``count`` documents of highest cosine with each query.

    ``same``: query i is document i, and is left out.
    """
    unit, numbers, scores = normalized(documents), [], []
    for start in range(0, len(queries), _BLOCK):
        cosine = normalized(queries[start : start + _BLOCK]) @ unit.T
        if same:
            rows = np.arange(len(cosine))
            cosine[rows, start + rows] = -np.inf
        near = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(cosine, near, axis=1), axis=1)
        numbers.append(np.take_along_axis(near, order, axis=1))
        scores.append(np.take_along_axis(cosine, numbers[-1], axis=1))
    return np.concatenate(numbers), np.concatenate(scores)


def _rescored(queries: Vectors, documents: Vectors, candidates: NDArray[np.intp]) -> Ranked:
    """Return the nearest of each query's candidates by the queries' vectors in full."""
    unit, own = normalized(documents), normalized(queries)
    scores = np.stack([unit[row] @ query for row, query in zip(candidates, own, strict=True)])
    order = np.argsort(-scores, axis=1)[:, :_DEPTH]
    return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _figures(judged: Judged, run: Mapping[str, Mapping[str, float]]) -> Found:
    measures: Any = installed("ir_measures", "ir-measures", "train")
    parsed = {name: measures.parse_measure(own) for name, own in MEASURES.items()}
    found = measures.calc_aggregate(list(parsed.values()), {q: dict(r) for q, r in judged.items()}, run)
    return cast(Found, {name: 100 * float(found[measure]) for name, measure in parsed.items()})
