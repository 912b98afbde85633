"""Quantized vectors are sentence-transformers' own, byte for byte, and int8 ones rank as the vectors they are of."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr
from sentence_transformers import quantize_embeddings

from compressor.artifact.folder import Draft
from compressor.core.encoder import Encoder, Vectors
from compressor.core.errors import ArtifactError, RecipeError
from compressor.models.agreement import Heldout, cosines, neighbours_in_common, normalized
from compressor.models.sentence_model import TorchEncoder
from compressor.vectors.codes import PRECISIONS, RANGES, Ranges, VectorPrecision, bytes_of, quantized, scored
from compressor.vectors.ranges import OutputVectors
from exporters.session import OnnxEncoder

TEXTS, HELDOUT = sentences(150), sentences(60, seed=3)


def components(count: int = 600, dim: int = 20) -> Vectors:
    """Return unit vectors as a PCA gives them: of falling variance, the first far off zero."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(count, dim)) * 0.8 ** np.arange(dim)
    vectors[:, 0] += 1
    return normalized(vectors.astype(np.float32))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("dim", [8, 20, 32])
def test_codes_are_sentence_transformers_bytes(precision: VectorPrecision, dim: int) -> None:
    vectors = components(dim=dim)
    vectors[0, :3] = 0, -0.0, 5  # on the border of a bit, and outside of the ranges
    for ranges in (Ranges.fit(vectors[1:300]), Ranges(np.vstack([vectors.min(0), vectors.max(0)]))):
        ours = quantized(vectors, precision, ranges)
        theirs = quantize_embeddings(vectors, precision=precision, ranges=ranges.bounds)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()


def test_a_constant_dimension_is_sentence_transformers_too() -> None:
    vectors = components()
    vectors[:, 4] = 0.25
    ranges = Ranges(np.vstack([vectors.min(0), vectors.max(0)]))
    theirs = quantize_embeddings(vectors, precision="int8", ranges=ranges.bounds)
    assert quantized(vectors, "int8", ranges).tobytes() == theirs.tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_vectors(precision: VectorPrecision) -> None:
    ranges, some = Ranges.fit(components()), components()
    codes, whole = (quantized(vectors, precision, ranges) for vectors in (some[:0], some))
    assert (codes.shape, codes.dtype) == ((0, whole.shape[1]), whole.dtype)


def test_int8_codes_are_the_vectors_times_one_number_rounded() -> None:
    vectors = components()
    codes = quantized(vectors, "int8", Ranges.fit(vectors))
    step = np.abs(vectors).max() / 127
    np.testing.assert_allclose(codes * step, vectors, atol=0.5005 * step)
    assert (int(np.abs(codes.astype(int)).max()), codes.dtype) == (127, np.int8)


def test_one_range_ranks_by_dot_product_and_cosine_as_the_vectors_do_and_a_range_each_does_not() -> None:
    vectors = components()
    left, right = vectors[:300], vectors[300:]
    wanted = cosines(left, right)
    rank: dict[str, list[float]] = {}
    for name, ranges in {
        "one": Ranges.fit(vectors),
        "each": Ranges(np.vstack([vectors.min(0), vectors.max(0)])),
    }.items():
        a, b = (scored(quantized(side, "int8", ranges), "int8", 20) for side in (left, right))
        rank[name] = [float(spearmanr(wanted, got)[0]) for got in (cosines(a, b), (a * b).sum(axis=1))]
    assert min(rank["one"]) > 0.9995
    assert max(rank["each"]) < 0.98


def test_exactly_proportional_vectors_keep_their_order() -> None:
    """Vectors that are whole numbers of steps lose nothing at all."""
    whole = np.random.default_rng(0).integers(-127, 128, (50, 16)).astype(np.float32)
    whole[0, 0] = 127
    codes = quantized(whole / 1000, "int8", Ranges.fit(whole / 1000))
    np.testing.assert_array_equal(codes, whole)


@pytest.mark.parametrize("dim", [20, 32])
def test_binary_vectors_bytes(dim: int) -> None:
    vectors = components(dim=dim)
    packed, signed = quantized(vectors, "ubinary"), quantized(vectors, "binary")
    assert packed.shape == signed.shape == (600, bytes_of("binary", dim)) == (600, -(-dim // 8))
    assert packed[7, 1] == sum(128 >> i for i in range(8) if vectors[7, 8 + i] > 0)
    assert signed[7, 1] == int(packed[7, 1]) - 128
    signs = np.where(vectors > 0, 1, -1)
    np.testing.assert_array_equal(scored(packed, "ubinary", dim), signs)
    np.testing.assert_array_equal(scored(signed, "binary", dim), signs)
    hamming = np.unpackbits(packed[0] ^ packed[1]).sum()
    assert hamming == pytest.approx(dim * (1 - float(cosines(signs[:1], signs[1:2])[0])) / 2)


def test_uint8_is_int8_plus_128() -> None:
    vectors, ranges = components(), Ranges.fit(components())
    unsigned, signed = (quantized(vectors, precision, ranges) for precision in ("uint8", "int8"))
    np.testing.assert_array_equal(unsigned.astype(int) - 128, signed)
    np.testing.assert_array_equal(scored(unsigned, "uint8", 20), scored(signed, "int8", 20))


def test_bytes_a_vector() -> None:
    assert {precision: bytes_of(precision, 100) for precision in PRECISIONS} == {
        "float32": 400,
        "int8": 100,
        "uint8": 100,
        "binary": 13,
        "ubinary": 13,
    }


def test_ranges_are_kept_as_sentence_transformers_takes_them(tmp_path: Path) -> None:
    vectors = components()
    Ranges.fit(vectors).save(tmp_path)
    kept = load_file(tmp_path / RANGES)["ranges"]
    assert (kept.shape, kept.dtype) == ((2, 20), np.float32)
    ours = quantized(vectors, "int8", Ranges.load(tmp_path, 20))
    assert ours.tobytes() == quantize_embeddings(vectors, precision="int8", ranges=kept).tobytes()


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (np.zeros((2, 8), np.float32), "ranges are float32 [2, 8], must be float32 [2, 20]"),
        (np.zeros((2, 20), np.float64), "ranges are float64 [2, 20], must be float32 [2, 20]"),
        (np.full((2, 20), np.nan, np.float32), "ranges must be finite, the lowest value before the highest"),
        (np.float32([[1], [0]]) * np.ones((2, 20), np.float32), "ranges must be finite, the lowest value before"),
        (None, "not readable as safetensors with a tensor ranges"),
    ],
)
def test_damaged_ranges(tmp_path: Path, kept: Any, message: str) -> None:
    path = tmp_path / RANGES
    path.write_bytes(b"damaged") if kept is None else save_file({"ranges": kept}, path)
    with pytest.raises(ArtifactError) as caught:
        Ranges.load(tmp_path, 20)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_an_unknown_precision() -> None:
    with pytest.raises(RecipeError) as caught:
        quantized(components(), "int4")  # type: ignore[arg-type]
    assert str(caught.value) == "precision = 'int4': must be one of float32, int8, uint8, binary, ubinary"
    with pytest.raises(ArtifactError, match="^precision = 'int8': needs ranges$"):
        quantized(components(), "int8")


@pytest.fixture(scope="module")
def artifact(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of an artifact, with ranges."""
    folder = Path(shutil.copytree(artifacts() / "fp32", tmp_path_factory.mktemp("output") / "fp32"))
    Ranges.fit(OnnxEncoder(folder).encode(TEXTS)).save(folder)
    return folder


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch_size", [8, 256])
def test_the_artifact_encodes_into_every_precision(artifact: Path, precision: VectorPrecision, batch_size: int) -> None:
    encoder = OnnxEncoder(artifact, threads=1)
    assert isinstance(encoder, Encoder)
    vectors = encoder.encode(HELDOUT, batch_size)
    ours = encoder.encode(HELDOUT, batch_size, precision)
    theirs = quantize_embeddings(vectors, precision=precision, ranges=load_file(artifact / RANGES)["ranges"])
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours, theirs)
    assert ours.nbytes == len(HELDOUT) * bytes_of(precision, encoder.dim)


def test_what_the_artifact_cannot_encode(artifacts: Callable[..., Path]) -> None:
    encoder = OnnxEncoder(artifacts() / "fp32", threads=1)
    assert encoder.encode(HELDOUT[:2], precision="binary").shape == (2, 4)
    with pytest.raises(ArtifactError) as caught:
        encoder.encode(HELDOUT[:2], precision="int8")
    assert str(caught.value) == (
        f"{encoder.folder / RANGES}: no such file, and int8 and uint8 vectors need its ranges; "
        "make it with Ranges.fit(encoder.encode(texts)).save(folder)"
    )
    with pytest.raises(RecipeError, match="^precision = 'int4': must be one of"):
        encoder.encode(HELDOUT[:2], precision="int4")  # type: ignore[arg-type]


def test_without_torch_and_safetensors_for_float32() -> None:
    code = (
        "import sys, exporters.session, compressor.vectors.codes\n"
        "print({'torch', 'sentence_transformers', 'safetensors', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_stage_fits_ranges_and_says_what_is_kept(tiny: Path, tmp_path: Path) -> None:
    encoder = TorchEncoder.load(tiny)
    own = encoder.encode(HELDOUT)
    draft = Draft(tmp_path)
    OutputVectors(sample=100).run(tiny, TEXTS, Heldout(HELDOUT, own), draft)
    assert [path.name for path in tmp_path.iterdir()] == [RANGES]
    ranges = Ranges.load(tmp_path, 32)
    np.testing.assert_allclose(ranges.bounds, Ranges.fit(encoder.encode(TEXTS[:100])).bounds, atol=1e-6)
    found = draft.figures["precisions"]
    assert {form: figures["bytes"] for form, figures in found.items()} == {"float32": 128, "int8": 32, "binary": 4}
    assert found["float32"]["neighbours_at_10"] == pytest.approx(1, abs=2e-3)
    assert found["int8"]["pair_correlation"] > 0.99 > found["binary"]["pair_correlation"]
    near = neighbours_in_common(own, np.where(own > 0, 1, -1))
    assert found["binary"]["neighbours_at_10"] == pytest.approx(near, abs=0.02)
