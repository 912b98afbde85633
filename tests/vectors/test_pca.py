"""Principal components are the right ones, chosen for what they keep, and one Dense of the model gives them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import sentences
from scipy.stats import spearmanr
from sklearn.decomposition import PCA, TruncatedSVD

from compressor.artifact.folder import Draft, sha256
from compressor.core.encoder import Vectors
from compressor.core.errors import RecipeError, TextError
from compressor.models.agreement import Heldout, neighbours_in_common, normalized
from compressor.models.projection import PROJECTION, Projection
from compressor.models.sentence_model import TorchEncoder, open_model
from compressor.vectors.pca import Pca, fit, fold, pair_correlation, rotated

TEXTS = sentences(200)
HELDOUT = sentences(60, seed=3)


def cloud(count: int = 500, width: int = 24, offset: float = 1.0) -> Vectors:
    """Return vectors of falling variance along turned axes, their mean off zero."""
    random = np.random.default_rng(0)
    turned, _ = np.linalg.qr(random.normal(size=(width, width)))
    spread = 0.8 ** np.arange(width)
    return ((random.normal(size=(count, width)) * spread) @ turned + offset * turned[5]).astype(np.float32)


def reduce(student: Path, to: Path, **fields: Any) -> Draft:
    to.mkdir()
    draft = Draft(to)
    heldout = Heldout(HELDOUT, TorchEncoder.load(student).encode(HELDOUT))
    Pca(**({"dim": 8} | fields)).run(student, TEXTS, heldout, draft)
    return draft


def signed(left: Vectors, right: Vectors) -> Vectors:
    """Return ``right`` with each column turned to the side of ``left``'s."""
    return right * np.sign((left * right).sum(axis=0))


def test_centred_is_scikit_learns_pca() -> None:
    vectors = cloud()
    ours = fit(vectors, 8, center=True)
    theirs = PCA(8, svd_solver="full").fit(vectors.astype(np.float64))
    expected = theirs.transform(vectors.astype(np.float64))
    np.testing.assert_allclose(signed(expected, ours.apply(vectors)), expected, atol=1e-5)
    np.testing.assert_allclose(ours.mean, theirs.mean_, atol=1e-6)


def test_uncentred_is_scikit_learns_truncated_svd() -> None:
    vectors = cloud()
    ours = fit(vectors, 8, center=False)
    theirs = TruncatedSVD(8, algorithm="arpack").fit(vectors.astype(np.float64))
    np.testing.assert_allclose(signed(theirs.components_.T, ours.components.T).T, theirs.components_, atol=1e-5)
    assert not ours.mean.any()
    assert np.abs(np.abs(ours.components) - np.abs(fit(vectors, 8, center=True).components)).max() > 0.1


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("dim", [2, 8, 24])
def test_components_are_orthonormal_and_in_order(dim: int, center: bool) -> None:
    vectors = cloud()
    projection = fit(vectors, dim, center)
    np.testing.assert_allclose(projection.components @ projection.components.T, np.eye(dim), atol=1e-6)
    moments = (projection.apply(vectors) ** 2).mean(axis=0)
    assert (np.diff(moments) < 0).all()
    assert projection.components.dtype == projection.mean.dtype == np.float32


def test_all_components_keep_all_distances() -> None:
    vectors = cloud()
    projection = fit(vectors, 24, center=True)
    np.testing.assert_allclose(projection.lift(projection.apply(vectors)) + projection.mean, vectors, atol=1e-5)


def test_signs_are_fixed() -> None:
    components = fit(cloud(), 8, center=True).components
    assert (components[np.arange(8), np.abs(components).argmax(axis=1)] > 0).all()
    assert fit(cloud(), 8, center=True).components.tobytes() == components.tobytes()


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("options", [{}, {"normalize": False}, {"dense": 16, "pooling": "cls"}])
def test_the_model_gives_the_projected_vectors(
    make_model: Callable[..., Path], tmp_path: Path, options: dict[str, Any], center: bool
) -> None:
    student = make_model(**options)
    draft = reduce(student, tmp_path / "pca", center=center)
    projection = Projection.load(draft.folder)
    assert projection is not None
    assert projection.components.shape == (8, options.get("dense", 32))
    assert projection.mean.any() == center
    reduced = TorchEncoder.load(draft.folder)
    expected = normalized(projection.apply(TorchEncoder.load(student).encode(HELDOUT)))
    np.testing.assert_allclose(reduced.encode(HELDOUT), expected, atol=1e-5)
    assert (reduced.dim, reduced.max_length) == (8, 64)
    assert draft.figures["centered"] is center


@pytest.mark.parametrize(
    ("center", "names"),
    [
        (False, ["Transformer", "Pooling", "Dense", "Normalize"]),
        (True, ["Transformer", "Pooling", "Normalize", "Dense", "Normalize"]),
    ],
)
def test_normalize_is_dropped_only_where_it_changes_nothing(
    tiny: Path, tmp_path: Path, center: bool, names: list[str]
) -> None:
    folder = reduce(tiny, tmp_path / "pca", center=center).folder
    model = open_model(folder)
    assert [type(module).__name__ for module in model] == names
    dense: Any = model[names.index("Dense")]
    assert (dense.linear.bias is not None) == center
    assert isinstance(dense.activation_function, torch.nn.Identity)


def test_reloaded_from_disk_it_is_the_same(tiny: Path, tmp_path: Path) -> None:
    projection = fit(TorchEncoder.load(tiny).encode(TEXTS), 8, center=True)
    folded = fold(open_model(tiny), projection)
    folded.save_pretrained(str(tmp_path), create_model_card=False)
    np.testing.assert_array_equal(TorchEncoder.load(tmp_path).encode(HELDOUT), TorchEncoder(folded).encode(HELDOUT))
    projection.save(tmp_path)
    again = Projection.load(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.components, projection.components)
    np.testing.assert_array_equal(again.mean, projection.mean)
    assert Projection.load(tiny) is None


def test_a_projection_behind_another_is_one_map(tiny: Path, tmp_path: Path) -> None:
    """A student that is its teacher in a space of its own is reduced once more: one map takes the teacher's vectors."""
    teacher = TorchEncoder.load(tiny)
    first = rotated(fit(teacher.encode(TEXTS), 16, center=False), teacher.encode(TEXTS))
    fold(open_model(tiny), first).save_pretrained(str(tmp_path / "student"), create_model_card=False)
    heldout = Heldout(HELDOUT, teacher.encode(HELDOUT))
    for center, to in ((False, tmp_path / "plain"), (True, tmp_path / "centered")):
        to.mkdir()
        Pca(dim=8, center=center).run(tmp_path / "student", TEXTS, heldout, Draft(to), first)
    whole, expected = Projection.load(tmp_path / "plain"), TorchEncoder.load(tmp_path / "plain").encode(HELDOUT)
    assert whole is not None
    assert (whole.components.shape, whole.width) == ((8, 32), 32)
    np.testing.assert_allclose(normalized(whole.apply(heldout.teacher)), expected, atol=1e-5)
    assert heldout.agreement(expected, whole)["cosine_mean"] > 0.9
    # A mean is taken off vectors of unit length, which no map of the teacher's alone does: none is kept.
    assert Projection.load(tmp_path / "centered") is None


def test_the_student_is_left_as_it_was(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    before = TorchEncoder(model).encode(HELDOUT)
    fold(model, fit(TorchEncoder(model).encode(TEXTS), 8, center=False))
    assert len(list(model)) == 3
    np.testing.assert_array_equal(TorchEncoder(model).encode(HELDOUT), before)


def test_equal_input_gives_equal_bytes(tiny: Path, tmp_path: Path) -> None:
    one, other = (reduce(tiny, tmp_path / name).folder for name in ("one", "other"))
    files = {path.relative_to(one): sha256(path) for path in one.rglob("*") if path.is_file()}
    assert {path.relative_to(other): sha256(path) for path in other.rglob("*") if path.is_file()} == files
    assert {Path(PROJECTION), Path("2_Dense/model.safetensors"), Path("model.safetensors")} <= files.keys()


def choose(sample: Vectors, own: Vectors, teacher: Vectors, center: Any = "auto") -> tuple[bool, dict[str, float]]:
    projection, kept = Pca(dim=2, center=center).choose(sample, own, teacher)
    assert {frozenset(values) for values in kept.values()} == {frozenset(kept["pair_correlation"])}
    return bool(projection.mean.any()), kept["pair_correlation"]


def test_auto_takes_the_mean_off_where_that_keeps_more_of_the_order() -> None:
    """All texts far out on one axis: uncentred, that axis is the first component, and tells nothing apart."""
    random = np.random.default_rng(0)
    sample = random.normal(size=(400, 6)).astype(np.float32) * np.float32([0.1, 2.0, 1.9, 0.1, 0.1, 0.1])
    far = sample + np.float32([50, 0, 0, 0, 0, 0])
    centered, kept = choose(far, far[:150], sample[:150])
    assert centered
    assert kept["centered"] > 0.8 > 0.3 > kept["uncentered"]


def test_auto_leaves_the_mean_in_where_that_keeps_more_of_the_order() -> None:
    """The mean is what a text's angle is measured against: without it, only the side it lies on is left."""
    random = np.random.default_rng(0)
    sample = random.normal(size=(400, 6)).astype(np.float32) * np.float32([0.01, 1.0, 0.2, 0.01, 0.01, 0.01])
    sample[:, 0] += 1.5
    centered, kept = choose(sample, sample[:150], sample[:150])
    assert not centered
    assert kept["uncentered"] > kept["centered"] + 0.1


@pytest.mark.parametrize("center", [False, True])
def test_auto_reports_both_and_a_choice_only_itself(center: bool) -> None:
    vectors = cloud()
    assert set(choose(vectors, vectors[:100], vectors[:100])[1]) == {"centered", "uncentered"}
    made, kept = choose(vectors, vectors[:100], vectors[:100], center)
    assert made is center
    assert set(kept) == {"centered" if center else "uncentered"}


def test_figures(tiny: Path, tmp_path: Path) -> None:
    draft = reduce(tiny, tmp_path / "pca")
    encoder, projection = TorchEncoder.load(tiny), Projection.load(draft.folder)
    assert projection is not None
    sample, own = encoder.encode(TEXTS), encoder.encode(HELDOUT)
    reduced = TorchEncoder.load(draft.folder).encode(HELDOUT)
    chosen = "centered" if draft.figures["centered"] else "uncentered"
    order = draft.figures["pair_correlation"]
    assert order[chosen] == max(order.values()) == pytest.approx(pair_correlation(own, reduced), abs=1e-4)
    near = draft.figures["neighbours_at_10"]
    assert near[chosen] == pytest.approx(neighbours_in_common(own, reduced), abs=1e-3)
    share = np.var(sample @ projection.components.T, axis=0).sum() / np.var(sample, axis=0).sum()
    assert draft.figures["variance_kept"] == pytest.approx(float(share), rel=1e-4)
    assert 0.5 < share < 1
    json.dumps(draft.figures)


def test_components_are_fitted_on_the_sample_alone(tiny: Path, tmp_path: Path) -> None:
    draft = reduce(tiny, tmp_path / "pca", sample=100, center=True)
    projection = Projection.load(draft.folder)
    assert projection is not None
    expected = fit(TorchEncoder.load(tiny).encode(TEXTS[:100]), 8, center=True)
    np.testing.assert_allclose(projection.components, expected.components, atol=1e-4)
    np.testing.assert_allclose(projection.mean, expected.mean, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "fields", "kind", "message"),
    [
        (200, {"dim": 33}, RecipeError, "pca.dim = 33: must be at most 32, the length of the student's vectors"),
        (19, {"dim": 20}, TextError, "19 texts are too few to fit 20 components; at least 20 are needed"),
        (200, {"dim": 120}, RecipeError, "pca.sample = 100: must be at least 120, the components to fit"),
    ],
)
def test_what_cannot_be_fitted(
    make_model: Callable[..., Path],
    tmp_path: Path,
    texts: int,
    fields: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    student = make_model(width=128, layers=1) if fields["dim"] == 120 else make_model()
    heldout = Heldout(HELDOUT, np.ones((len(HELDOUT), 32), np.float32))
    with pytest.raises(kind) as caught:
        Pca(sample=100, **fields).run(student, TEXTS[:texts], heldout, Draft(tmp_path))
    assert str(caught.value) == message
    assert not any(tmp_path.iterdir())


def second_moments(vectors: Vectors) -> Vectors:
    return vectors.T @ vectors / len(vectors)


@pytest.mark.parametrize("center", [False, True])
def test_fully_whitened_heldout_vectors_are_uncorrelated_and_of_variance_one(center: bool) -> None:
    vectors = cloud(20_000)
    sample, heldout = vectors[:10_000], vectors[10_000:]
    whitened = fit(sample, 8, center, whiten=1.0).apply(heldout)
    np.testing.assert_allclose(second_moments(whitened), np.eye(8), atol=0.05)
    plain = second_moments(fit(sample, 8, center).apply(heldout))
    assert np.abs(plain - np.eye(8)).max() > 0.3
    if center:
        theirs = PCA(8, svd_solver="full", whiten=True).fit(sample.astype(np.float64)).transform(heldout)
        np.testing.assert_allclose(np.abs(whitened), np.abs(theirs), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("whiten", [0.25, 0.5])
def test_whitened_in_part(whiten: float) -> None:
    vectors = cloud()
    plain, whitened = fit(vectors, 8, center=True), fit(vectors, 8, center=True, whiten=whiten)
    variance = plain.apply(vectors).astype(np.float64).var(axis=0)
    expected = plain.components * variance[:, None] ** (-whiten / 2)
    np.testing.assert_allclose(whitened.components, expected, rtol=1e-4)


def test_vectors_of_few_directions_cannot_be_whitened() -> None:
    flat = cloud() * (np.arange(24) < 5)
    fit(flat, 8, center=True)
    with pytest.raises(TextError) as caught:
        fit(flat, 8, center=True, whiten=0.5)
    assert str(caught.value) == "the vectors vary in 5 directions only; 8 cannot be whitened"


@pytest.mark.parametrize("options", [{"whiten": 1.0}, {"rotate": True}, {"whiten": 0.5, "rotate": True}])
def test_lift_undoes_what_was_done_to_the_components(options: dict[str, Any]) -> None:
    vectors = cloud()
    plain, _ = Pca(dim=8, center=True).choose(vectors, vectors[:100], vectors[:100])
    other, _ = Pca(dim=8, center=True, **options).choose(vectors, vectors[:100], vectors[:100])
    assert np.abs(other.apply(vectors) - plain.apply(vectors)).max() > 0.1
    np.testing.assert_allclose(other.lift(other.apply(vectors)), plain.lift(plain.apply(vectors)), atol=1e-4)


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("options", [{"whiten": 1.0}, {"whiten": 0.5, "rotate": True}])
def test_whitened_and_rotated_are_folded_into_the_model(
    tiny: Path, tmp_path: Path, center: bool, options: dict[str, Any]
) -> None:
    draft = reduce(tiny, tmp_path / "pca", center=center, **options)
    projection = Projection.load(draft.folder)
    assert projection is not None
    expected = normalized(projection.apply(TorchEncoder.load(tiny).encode(HELDOUT)))
    np.testing.assert_allclose(TorchEncoder.load(draft.folder).encode(HELDOUT), expected, atol=1e-5)
    plain = reduce(tiny, tmp_path / "plain", center=center)
    assert draft.figures["variance_kept"] == pytest.approx(plain.figures["variance_kept"], rel=1e-3)


def test_rotation_keeps_cosines_and_makes_signs_tell_more() -> None:
    vectors = cloud(2000, offset=0.2)
    sample, heldout = vectors[:1500], vectors[1500:]
    plain = fit(sample, 12, center=False)
    turned = rotated(plain, sample)
    before, after = (normalized(projection.apply(heldout)) for projection in (plain, turned))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-5)
    near = [neighbours_in_common(heldout, np.where(vectors > 0, 1, -1)) for vectors in (before, after)]
    assert near[1] > near[0] + 0.05
    assert rotated(plain, sample).components.tobytes() == turned.components.tobytes()


def test_rotation_leaves_a_large_mean_to_one_dimension() -> None:
    """Spread over all dimensions, the mean alone would set every sign, and all texts would have the same bits."""
    vectors = cloud(2000, offset=12)
    positive = (rotated(fit(vectors, 12, center=False), vectors).apply(vectors) > 0).mean(axis=0)
    assert ((positive > 0.3) & (positive < 0.7)).tolist() == [False] + 11 * [True]


def test_pair_correlation_is_spearmans_over_the_most_similar_pairs() -> None:
    random = np.random.default_rng(0)
    teacher = normalized(random.normal(size=(60, 8)).astype(np.float32))
    vectors = (teacher + 0.2 * random.normal(size=(60, 8))).astype(np.float32)
    rows, columns = np.triu_indices(60, 1)
    wanted, got = (np.einsum("nd,nd->n", unit[rows], unit[columns]) for unit in (teacher, normalized(vectors)))
    similar = np.argsort(-wanted)[:300]
    assert pair_correlation(teacher, vectors, k=5) == pytest.approx(float(spearmanr(wanted[similar], got[similar])[0]))
    assert pair_correlation(teacher, vectors, k=60) == pytest.approx(float(spearmanr(wanted, got)[0]))
    assert pair_correlation(teacher, teacher * 3) == pytest.approx(1)
    assert pair_correlation(teacher, np.ones((60, 2), np.float32)) == 0


def test_pair_correlation_decides_where_neighbours_say_otherwise() -> None:
    disagreements = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        sample = random.normal(size=(300, 5)).astype(np.float32) * np.float32([0.3, 1, 0.8, 0.7, 0.6])
        sample[:, 0] += 1
        projection, kept = Pca(dim=2).choose(sample, sample[:100], sample[:100])
        order, near = (values["centered"] > values["uncentered"] for values in kept.values())
        assert projection.mean.any() == order
        disagreements += order != near
    assert disagreements > 0


@pytest.mark.parametrize("whiten", [-0.1, 1.1])
def test_whiten_is_a_power_between_0_and_1(whiten: float) -> None:
    with pytest.raises(RecipeError, match=f"options: whiten = {whiten}: input should be (less|greater) than or equal"):
        Pca.read({"whiten": whiten})


@pytest.mark.parametrize(("field", "value", "least"), [("dim", 1, 2), ("sample", 99, 100)])
def test_ranges(field: str, value: int, least: int) -> None:
    with pytest.raises(RecipeError) as caught:
        Pca.read({field: value})
    assert str(caught.value) == f"options: {field} = {value}: input should be greater than or equal to {least}"
