"""Retrieval figures are those that can be counted by hand, and the real teacher's are those that are known."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from compressor.core.errors import TextError
from compressor.models.agreement import normalized
from compressor.texts.collections import Collection
from compressor.vectors.retrieval import as_ranked_by, nearest, retrieval, sides


def circle(*degrees: float) -> np.ndarray:
    """Return unit vectors at angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def collection(judged: Mapping[str, Mapping[str, int]], count: int = 12) -> Collection:
    documents = {f"d{number}": f"text {number}" for number in range(count)}
    return Collection("by hand", documents, {query: query for query in judged}, judged)


def test_figures_are_those_counted_by_hand() -> None:
    """Documents stand at 0, 10, ... 110 degrees, the queries at 1 and at 29: d0 d1 d2 ... and d3 d2 d4 d1 d5 d0 ..."""
    judged = {"q0": {"d0": 1, "d2": 1, "d11": 1}, "q1": {"d2": 2, "d9": 1}}
    documents = 3 * circle(*range(0, 120, 10))  # lengths say nothing
    found = retrieval(collection(judged), circle(1, 29), documents)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    first = (1 + 1 / 2) / ideal  # places 1 and 3; d11 is the twelfth
    second = (2 / math.log2(3) + 1 / math.log2(11)) / (2 + 1 / math.log2(3))  # places 2 and 10: d9 is 61 degrees off
    assert found == pytest.approx(
        {
            "ndcg_at_10": 50 * (first + second),
            "recall_at_1": 50 * (1 / 3 + 0),
            "recall_at_10": 50 * (2 / 3 + 1),
            "recall_at_100": 100,
            "mrr_at_10": 50 * (1 + 1 / 2),
        }
    )


def test_a_query_that_finds_nothing_counts() -> None:
    judged = {"q0": {"d0": 1}, "q1": {"d11": 1}}
    assert retrieval(collection(judged), circle(0, 0), circle(*range(0, 120, 10)))["ndcg_at_10"] == pytest.approx(50)


def test_the_nearest_come_first() -> None:
    numbers, cosines = nearest(circle(21), circle(0, 90, 20, 45), 3)
    assert numbers.tolist() == [[2, 0, 3]]
    assert cosines[0] == pytest.approx(np.cos(np.radians([1, 21, 24])), abs=1e-6)
    numbers, _ = nearest(circle(0, 20), circle(0, 20, 45), 2, same=True)
    assert numbers.tolist() == [[1, 2], [0, 2]]


def test_the_teachers_own_ranking_is_the_whole() -> None:
    random = np.random.default_rng(0)
    teacher = normalized(random.standard_normal((300, 16)).astype(np.float32))
    sides_of = (teacher[:40], teacher)
    assert as_ranked_by(sides_of, sides_of, same=True) == pytest.approx(100)
    near = teacher + 0.02 * random.standard_normal(teacher.shape).astype(np.float32)
    far = teacher + 0.2 * random.standard_normal(teacher.shape).astype(np.float32)
    scores = [as_ranked_by(sides_of, (own[:40], own), same=True) for own in (near, far)]
    assert 100 > scores[0] > scores[1] > as_ranked_by(sides_of, (teacher[40:80], teacher), same=False)
    # The order counts, not the set alone: the ten nearest turned round.
    assert as_ranked_by((circle(0), circle(*range(11))), (circle(10), circle(*range(1, 12)))) < 75


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(TextError, match=r"^10 documents are too few to rank 10 of; at least 11 are needed$"):
        as_ranked_by((circle(0), circle(*range(10))), (circle(0), circle(*range(10))))


def test_each_side_has_its_prompt() -> None:
    class Asking:
        def encode_query(self, texts: list[str], batch_size: int) -> np.ndarray:
            return np.array([[1, len(text)] for text in texts])

        def encode_document(self, texts: list[str], batch_size: int) -> np.ndarray:
            return np.array([[2, len(text)] for text in texts])

        encode = None

    queries, documents = sides(Asking(), collection({"q0": {"d0": 1}}, count=2))
    assert queries.tolist() == [[1, 2]]
    assert documents.tolist() == [[2, 6], [2, 6]]


@pytest.mark.slow
def test_the_real_teachers_figures_are_known(shared: Path) -> None:
    """As measured by others: nDCG@10 of 42.0 on CISI's abstracts."""
    from compressor.models.sentence_model import TorchEncoder
    from compressor.models.source import DEFAULT, find

    cisi = Collection.read(shared / "retrieval" / "cisi")
    found = retrieval(cisi, *sides(TorchEncoder.load(find(DEFAULT).folder), cisi))
    assert found["ndcg_at_10"] == pytest.approx(42.0, abs=0.1)
