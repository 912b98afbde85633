"""Agreement is what its formula says: cosines row by row, neighbours by counting."""

import numpy as np
import pytest

from compressor.core.encoder import Vectors
from compressor.core.errors import TextError
from compressor.models.agreement import Heldout, cosines, neighbours_in_common, normalized
from compressor.vectors.pca import fit


def random_vectors(count: int, width: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def near(vectors: Vectors, row: int, k: int) -> set[int]:
    """Find a row's nearest others the slow way."""
    lengths = [float(np.sqrt(sum(float(x) ** 2 for x in vector))) for vector in vectors]
    cosine = {
        other: float(sum(float(a) * float(b) for a, b in zip(vectors[row], vectors[other], strict=True)))
        / (lengths[row] * lengths[other])
        for other in range(len(vectors))
        if other != row
    }
    return set(sorted(cosine, key=lambda other: -cosine[other])[:k])


def test_normalized() -> None:
    rows = np.array([[3, 4], [0, 0], [0, -2]], np.float32)
    np.testing.assert_allclose(normalized(rows), [[0.6, 0.8], [0, 0], [0, -1]], rtol=1e-6)


def test_cosines() -> None:
    left = np.array([[1, 0], [2, 2], [1, 0], [0, 0], [3, 4]], np.float32)
    right = np.array([[5, 0], [1, 0], [-2, 0], [1, 1], [4, -3]], np.float32)
    np.testing.assert_allclose(cosines(left, right), [1, np.sqrt(0.5), -1, 0, 0], atol=1e-6)
    assert np.isfinite(cosines(left * 0, right * 0)).all()


@pytest.mark.parametrize("k", [1, 3, 10])
def test_neighbours_in_common_by_brute_force(k: int) -> None:
    left, right = random_vectors(30, 8), random_vectors(30, 5, seed=1)
    right += 2 * left[:, :5]
    counted = [len(near(left, row, k) & near(right, row, k)) / k for row in range(30)]
    assert neighbours_in_common(left, right, k) == pytest.approx(np.mean(counted))
    assert 0.1 < np.mean(counted) < 0.9


def test_neighbours_do_not_feel_length_or_turning() -> None:
    left = random_vectors(40, 6)
    turned, _ = np.linalg.qr(random_vectors(6, 6, seed=1))
    assert neighbours_in_common(left, left * np.linspace(1, 9, 40, dtype=np.float32)[:, None]) == 1.0
    assert neighbours_in_common(left, left @ turned) > 0.99
    assert neighbours_in_common(left, random_vectors(40, 6, seed=2)) < 0.5


def test_a_text_is_no_neighbour_of_its_own() -> None:
    """In pairs of equal vectors the nearest is the twin; were a text its own, some would be in common below."""
    pairs = np.repeat(np.eye(6, dtype=np.float32), 2, axis=0)
    others = np.roll(pairs, 1, axis=0)  # each row has another twin
    assert neighbours_in_common(pairs, pairs, 1) == 1.0
    assert neighbours_in_common(pairs, others, 1) == 0.0


@pytest.mark.parametrize("count", [1, 10])
def test_too_few_texts(count: int) -> None:
    vectors = random_vectors(count, 4)
    with pytest.raises(TextError) as caught:
        neighbours_in_common(vectors, vectors)
    assert str(caught.value) == f"{count} texts are too few to compare 10 neighbours of each; at least 11 are needed"


def test_eleven_texts_are_enough() -> None:
    assert neighbours_in_common(random_vectors(11, 4), random_vectors(11, 4, seed=1)) == 1.0  # all the others


def test_agreement_of_equally_long_vectors() -> None:
    teacher = random_vectors(200, 8)
    vectors = teacher + 0.3 * random_vectors(200, 8, seed=1)
    figures = Heldout(["text"] * 200, teacher).agreement(vectors)
    cosine = np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(teacher, vectors, strict=True)])
    assert figures == {
        "cosine_mean": pytest.approx(float(np.mean(cosine)), abs=1e-6),
        "cosine_p1": pytest.approx(float(np.percentile(cosine, 1)), abs=1e-6),
        "cosine_min": pytest.approx(float(min(cosine)), abs=1e-6),
        "neighbours_at_10": pytest.approx(neighbours_in_common(teacher, vectors)),
    }
    assert figures["cosine_min"] < figures["cosine_p1"] < figures["cosine_mean"] < 0.99


@pytest.mark.parametrize("center", [False, True])
def test_agreement_of_reduced_vectors(center: bool) -> None:
    """A reduced vector is compared with the teacher's where it came from: on the components, about the mean."""
    teacher = random_vectors(200, 8) + 2
    projection = fit(teacher, 3, center)
    reduced = normalized(projection.apply(teacher))
    figures = Heldout(["text"] * 200, teacher).agreement(reduced, projection)
    about = teacher.astype(np.float64) - (teacher.mean(axis=0, dtype=np.float64) if center else 0)
    lifted = sum(reduced[:, [i]] * projection.components[i] for i in range(3))
    cosine = (about * lifted).sum(axis=1) / np.linalg.norm(about, axis=1) / np.linalg.norm(lifted, axis=1)
    assert figures["cosine_mean"] == pytest.approx(cosine.mean(), abs=1e-5)
    assert figures["cosine_min"] == pytest.approx(cosine.min(), abs=1e-5)
    # What is lost is what lies off the components, and nothing else.
    kept = np.linalg.norm(about @ projection.components.T, axis=1) / np.linalg.norm(about, axis=1)
    assert figures["cosine_mean"] == pytest.approx(kept.mean(), abs=1e-5)
    assert figures["neighbours_at_10"] == neighbours_in_common(teacher, reduced)


def test_agreement_in_another_space_is_neighbours_alone() -> None:
    teacher = random_vectors(50, 8)
    figures = Heldout(["text"] * 50, teacher).agreement(teacher[:, :5])
    assert figures == {"neighbours_at_10": neighbours_in_common(teacher, teacher[:, :5])}


def test_zero_vectors_are_no_nan() -> None:
    teacher = random_vectors(50, 8)
    figures = Heldout(["text"] * 50, teacher).agreement(np.zeros_like(teacher))
    assert figures["cosine_mean"] == figures["cosine_min"] == 0.0
    assert 0 <= figures["neighbours_at_10"] <= 1
