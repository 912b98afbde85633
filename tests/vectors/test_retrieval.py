"""Retrieval figures are those that can be counted by hand, and the real teacher's are those that are known."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from beir import of_sentences

from compressor.core.errors import TextError
from compressor.models.agreement import Heldout, normalized
from compressor.models.projection import Projection
from compressor.texts.collections import Collection
from compressor.vectors.retrieval import Searches, as_ranked_by, nearest, ranking_kept, retrieval, sides


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


def test_codes_that_are_rescored_find_what_the_vectors_find() -> None:
    random = np.random.default_rng(0)
    documents = normalized(random.standard_normal((500, 32)).astype(np.float32))
    queries = documents[:50] + 0.15 * random.standard_normal((50, 32)).astype(np.float32)
    judged = {f"q{number}": {f"d{number}": 1} for number in range(50)}
    own = collection(judged, count=500)
    signs, asked = np.sign(documents), np.sign(queries)
    full, plain, rescored = (
        retrieval(own, *pair)["ndcg_at_10"] for pair in ((queries, documents), (asked, signs), (asked, signs, queries))
    )
    assert plain + 3 < rescored < full <= 100
    # All candidates are ordered by what the documents' codes give of the queries in full, and nothing else.
    wanted = retrieval(own, queries, signs)
    assert retrieval(collection(judged, count=300), asked[:, :], signs[:300], queries) == pytest.approx(
        retrieval(collection(judged, count=300), queries, signs[:300])
    )
    assert rescored == pytest.approx(wanted["ndcg_at_10"], abs=1)


def test_the_first_model_is_the_teacher_whose_index_the_others_search(tmp_path: Path) -> None:
    own = Collection.read(of_sentences(tmp_path / "sentences"))
    random = np.random.default_rng(0)
    table = {text: random.standard_normal(8) for text in [*own.queries.values(), *own.documents.values()]}
    for name in list(own.queries)[:15]:  # most queries are near their documents
        table[own.queries[name]] = table[own.documents[f"d{name[1:]}"]] + 0.01

    class Known:
        def __init__(self, turned: float, width: int = 8) -> None:
            self.turned, self.width = turned, width

        def encode(self, texts: list[str], batch_size: int = 32) -> np.ndarray:
            vectors = np.array([table[text] for text in texts], np.float32)[:, : self.width]
            return vectors if not self.turned else -vectors

    searches = Searches([own])
    teacher = searches.figures(Known(0))["sentences"]
    assert teacher["recall_at_1"] >= 75
    assert "on_teachers_index" not in teacher
    turned = searches.figures(Known(1))["sentences"]
    assert turned["ndcg_at_10"] == pytest.approx(teacher["ndcg_at_10"])  # both sides are turned round
    assert turned["on_teachers_index"]["ndcg_at_10"] < 30
    short = searches.figures(Known(0, width=4))["sentences"]
    assert "on_teachers_index" not in short
    half = Projection(np.eye(4, 8, dtype=np.float32), np.zeros(8, np.float32))
    reduced = searches.figures(Known(0, width=4), half)["sentences"]
    assert reduced["on_teachers_index"] == pytest.approx({k: v for k, v in short.items()})
    others = Projection(np.eye(4, 6, dtype=np.float32), np.zeros(6, np.float32))  # of a teacher of other vectors
    assert searches.figures(Known(0, width=4), others)["sentences"] == short


def test_ranking_kept_is_of_heldout_texts() -> None:
    random = np.random.default_rng(0)
    teacher = normalized(random.standard_normal((40, 8)).astype(np.float32))
    heldout = Heldout([str(number) for number in range(40)], teacher)
    assert ranking_kept(heldout, 2 * teacher) == pytest.approx(100)
    assert ranking_kept(heldout, teacher[::-1]) < 60


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
