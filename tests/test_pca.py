"""Principal components are the right ones, chosen for what they keep, and one Dense of the model gives them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import sentences
from sklearn.decomposition import PCA, TruncatedSVD

from compressor.agreement import Heldout, neighbours_in_common, normalized
from compressor.artifact import Draft, sha256
from compressor.encoder import Vectors
from compressor.errors import RecipeError, TextError
from compressor.pca import Pca, fit, fold
from compressor.projection import PROJECTION, Projection
from compressor.sentence_model import TorchEncoder, open_model

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
    projection, kept = Pca(dim=2, center=center)._choose(sample, own, teacher)
    return bool(projection.mean.any()), kept


def test_auto_takes_the_mean_off_where_that_keeps_more_neighbours() -> None:
    """All texts far out on one axis: uncentred, that axis is the first component, and tells nothing apart."""
    random = np.random.default_rng(0)
    sample = random.normal(size=(400, 6)).astype(np.float32) * np.float32([0.1, 2.0, 1.9, 0.1, 0.1, 0.1])
    far = sample + np.float32([50, 0, 0, 0, 0, 0])
    centered, kept = choose(far, far[:150], sample[:150])
    assert centered
    assert kept["centered"] > 0.8 > 0.3 > kept["uncentered"]


def test_auto_leaves_the_mean_in_where_that_keeps_more_neighbours() -> None:
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
    kept = draft.figures["neighbours_at_10"]
    chosen = "centered" if draft.figures["centered"] else "uncentered"
    assert kept[chosen] == max(kept.values())
    assert kept[chosen] == pytest.approx(neighbours_in_common(own, TorchEncoder.load(draft.folder).encode(HELDOUT)))
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


@pytest.mark.parametrize(("field", "value", "least"), [("dim", 1, 2), ("sample", 99, 100)])
def test_ranges(field: str, value: int, least: int) -> None:
    with pytest.raises(RecipeError) as caught:
        Pca.read({field: value})
    assert str(caught.value) == f"options: {field} = {value}: input should be greater than or equal to {least}"
