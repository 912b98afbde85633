"""A map trained to keep similarities ranks related texts as the whole vectors do, better than principal components."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences

from compressor.artifact.folder import Draft
from compressor.core.encoder import Vectors
from compressor.core.errors import RecipeError, TextError
from compressor.models.agreement import Heldout, normalized
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder
from compressor.vectors.pca import Pca, fit, pair_correlation
from compressor.vectors.similarities import keep_similarities


def cloud(seed: int, topics: int = 120, width: int = 48) -> Vectors:
    """Return unit vectors in groups of near ones; eight loud directions say nothing of the groups."""
    random = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(width, width)))
    topic = 0.6 * random.normal(size=(topics, width))
    topic[:, :8] = 0
    members = np.repeat(topic, 6, axis=0) + 0.3 * random.normal(size=(topics * 6, width))
    members[:, :8] += random.normal(size=(topics * 6, 8))
    return normalized((members @ axes).astype(np.float32))


@pytest.fixture(scope="module")
def maps() -> dict[str, Projection]:
    """Return the principal components, and what is made of them with and without a prefix."""
    sample = cloud(0)
    components = fit(sample, 24, center=False)
    prefixed, whole = keep_similarities(components, sample, (16,)), keep_similarities(components, sample)
    return {"components": components, "prefixed": prefixed, "whole": whole}


def order_kept(made: Projection, dim: int) -> float:
    """Return how well vectors that the map was not made from keep the order of their most similar pairs."""
    unseen = cloud(1)
    return pair_correlation(unseen, made.apply(unseen)[:, :dim])


def test_related_texts_keep_their_order(maps: dict[str, Projection]) -> None:
    assert order_kept(maps["whole"], 24) > order_kept(maps["components"], 24) + 0.03
    assert order_kept(maps["prefixed"], 24) > order_kept(maps["components"], 24) + 0.05


def test_a_prefix_is_trained_as_a_vector_of_its_own(maps: dict[str, Projection]) -> None:
    assert order_kept(maps["prefixed"], 16) > order_kept(maps["whole"], 16) + 0.05


@pytest.mark.parametrize("center", [False, True])
def test_the_mean_stays_and_lifting_is_the_nearest(center: bool) -> None:
    sample = cloud(0)
    components = fit(sample, 8, center)
    made = keep_similarities(components, sample)
    assert np.array_equal(made.mean, components.mean)
    assert made.components.dtype == np.float32
    wanted = sample[:5] - made.mean
    lifted = made.lift(made.apply(sample[:5]))
    nearest = wanted @ np.linalg.pinv(made.components) @ made.components
    np.testing.assert_allclose(lifted, nearest, atol=1e-5)


def test_equal_input_gives_an_equal_map() -> None:
    sample = cloud(0, topics=20)
    first, second = (keep_similarities(fit(sample, 8, center=False), sample) for _ in range(2))
    np.testing.assert_allclose(first.components, second.components, atol=1e-5)


def test_one_vector_has_no_similarities() -> None:
    with pytest.raises(TextError, match="^1 vectors are too few to keep similarities of$"):
        keep_similarities(fit(cloud(0), 8, center=False), cloud(0)[:1])


@pytest.mark.parametrize("fields", [{}, {"rotate": True}])
def test_the_model_gives_the_reduced_vectors(tiny: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    texts, heldout = sentences(200), sentences(60, seed=3)
    encoder = TorchEncoder.load(tiny)
    teacher = Heldout(heldout, encoder.encode(heldout))
    stage = Pca(dim=8, keep="similarities", **fields)
    stage.run(tiny, texts, teacher, Draft(tmp_path))
    projection = Projection.load(tmp_path)
    assert projection is not None
    own = TorchEncoder.load(tmp_path).encode(heldout)
    np.testing.assert_allclose(own, normalized(projection.apply(teacher.teacher)), atol=1e-5)
    plain, _ = Pca(dim=8).choose(encoder.encode(texts), teacher.teacher, teacher.teacher)
    cosines = [normalized(one.apply(teacher.teacher)) for one in (plain, projection)]
    assert np.abs(cosines[0] @ cosines[0].T - cosines[1] @ cosines[1].T).max() > 1e-3


def test_scales_are_set_once() -> None:
    with pytest.raises(RecipeError, match=r"^pca.whiten = 0.5: not with keep = similarities, which sets"):
        Pca(dim=8, keep="similarities", whiten=0.5).check(32, 200)


@pytest.mark.parametrize(
    "fields", [{"keep": "variance"}, {"prefixes": (4, 8)}, {"rotate": True}], ids=["variance", "too long", "turned"]
)
def test_prefixes_are_below_the_whole_and_of_similarities(fields: dict[str, Any]) -> None:
    Pca(dim=8, keep="similarities", prefixes=(4, 2)).check(32, 200)
    with pytest.raises(
        RecipeError, match=r"^pca.prefixes = \[4.*\]: must be below dim = 8, with keep = similarities, and"
    ):
        Pca(**{"dim": 8, "keep": "similarities", "prefixes": (4,)} | fields).check(32, 200)


def test_the_stage_trains_its_prefixes() -> None:
    sample, unseen = cloud(0), cloud(1)
    stage = Pca(dim=24, keep="similarities", center=False, pairwise_power=1.0)
    whole, _ = stage.choose(sample, unseen, unseen)
    cut, _ = stage.model_copy(update={"prefixes": (16,)}).choose(sample, unseen, unseen)
    assert order_kept(cut, 16) > order_kept(whole, 16) + 0.05


def test_what_cannot_be_lifted_is_compared_where_it_is() -> None:
    """A direction that is nearly left out would otherwise bring the noise of the student back as a vector."""
    random = np.random.default_rng(0)
    turned, _ = np.linalg.qr(random.normal(size=(48, 48)))
    weak = np.array([*np.ones(40), *np.full(8, 1e-4)])
    projection = Projection((weak[:, None] * turned.T).astype(np.float32), np.zeros(48, np.float32))
    assert not projection.can_be_lifted
    assert fit(cloud(0), 24, center=True, whiten=0.5).can_be_lifted
    teacher = cloud(1)
    student = normalized(projection.apply(teacher) + 1e-3 * random.normal(size=teacher.shape).astype(np.float32))
    assert Heldout(["text"] * len(teacher), teacher).agreement(student, projection)["cosine_mean"] > 0.99
