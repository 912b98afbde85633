"""int8 is really there, where it belongs, and as exact as 8 bits allow."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import sentences
from graphs import draft, quantize, sqnr_db
from numpy.typing import NDArray
from onnx import numpy_helper

from compressor.artifact.folder import sha256
from compressor.artifact.layout import GRAPH, INTEGER_PRODUCTS
from compressor.core.errors import ArtifactError, ModelError
from exporters.graph.files import run_operators
from exporters.precision.int8 import OnnxInt8
from exporters.session import OnnxEncoder

TEXTS = sentences(64)
TABLE = "word_embeddings.weight"


def weights(folder: Path) -> dict[str, NDArray[Any]]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(folder / GRAPH).graph.initializer}


def named(folder: Path, end: str) -> NDArray[Any]:
    (found,) = (value for name, value in weights(folder).items() if name.endswith(end))
    return found


@pytest.fixture
def wide(artifacts: Callable[..., Path]) -> Path:
    """Two layers, 128 wide, a table of 3,000 rows."""
    return artifacts("wide")


@pytest.mark.parametrize("layers", [2, 4])
def test_four_integer_products_a_layer_run(layers: int, artifacts: Callable[..., Path]) -> None:
    found = run_operators(artifacts(layers=layers) / "int8" / GRAPH)
    assert found["QAttention"] == layers
    assert sum(found.get(kind, 0) for kind in INTEGER_PRODUCTS) == 4 * layers
    assert "MatMul" not in found
    assert "DequantizeLinear" not in found  # float weights in disguise


@pytest.mark.parametrize("bias", [True, False], ids=["with bias", "without bias"])
def test_nothing_after_pooling_is_quantized(bias: bool, make_model: Callable[..., Path], tmp_path: Path) -> None:
    import torch
    from graphs import make_artifacts
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    from compressor.models.sentence_model import open_model

    model = open_model(make_model(layers=2, normalize=False))
    model.append(Dense(32, 16, bias=bias, activation_function=torch.nn.Identity()))
    model.append(Normalize())
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    home = make_artifacts(tmp_path / "model", tmp_path)
    found = run_operators(home / "int8" / GRAPH)
    assert sum(found.get(kind, 0) for kind in INTEGER_PRODUCTS) == 4 * 2
    assert found.get("MatMul", 0) + found.get("Gemm", 0) + found.get("FusedGemm", 0) == 1
    dense = open_model(tmp_path / "model")[2].linear.weight.detach().numpy()
    kept = [w for w in weights(home / "int8").values() if w.dtype == np.float32 and w.size == 16 * 32]
    assert len(kept) == 1
    assert np.array_equal(kept[0] if kept[0].shape == dense.shape else kept[0].T, dense)


def test_every_matrix_has_a_scale_a_channel(wide: Path) -> None:
    found = weights(wide / "int8")
    scales = {name: found[name.replace("_quantized", "_scale")] for name in found if name.endswith("_quantized")}
    shapes = Counter((found[name].shape, scale.shape) for name, scale in scales.items())
    assert shapes == {
        ((128, 384), (384,)): 2,  # queries, keys, values
        ((128, 128), (128,)): 2,
        ((128, 512), (512,)): 2,
        ((512, 128), (128,)): 2,
    }
    assert all(found[name].dtype == np.int8 for name in scales)
    assert all(len(np.unique(scale)) > 0.9 * scale.size for scale in scales.values())


def test_matrices_are_within_half_a_step(wide: Path, tmp_path: Path) -> None:
    plain = quantize(wide / "fp32", draft(tmp_path / "int8"), smooth="none")
    exact, rough = weights(wide / "fp32"), weights(plain)
    checked = 0
    for name, values in rough.items():
        source = exact.get(name.removesuffix("_quantized"))
        if name.endswith("_quantized") and source is not None:
            scale = rough[name.replace("_quantized", "_scale")]
            assert (np.abs(values * scale - source) <= 0.501 * scale).all(), name
            checked += 1
    assert checked == 8


def test_the_table_is_within_half_a_step_a_row(wide: Path) -> None:
    exact, values, scales = (
        named(wide / "fp32", TABLE),
        named(wide / "int8", f"{TABLE}.int8"),
        named(wide / "int8", f"{TABLE}.scale"),
    )
    assert values.dtype == np.int8
    assert values.shape == exact.shape == (3000, 128)
    assert scales.shape == (3000, 1)
    assert (np.abs(values * scales - exact) <= 0.501 * scales).all()


def test_a_scale_a_row_beats_one_for_the_table(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    # Rows of very different lengths, as trained tables have them: random ones are all alike.
    source = artifacts("wide") / "fp32"
    model = onnx.load(source / GRAPH)
    (table,) = (t for t in model.graph.initializer if t.name.endswith(TABLE))
    rows = numpy_helper.to_array(table) * np.geomspace(0.05, 1, 3000, dtype=np.float32)[:, None]
    table.CopyFrom(numpy_helper.from_array(rows, table.name))
    onnx.save(model, tmp_path / "model.onnx")

    found = {t.name: numpy_helper.to_array(t) for t in OnnxInt8().quantize(model).graph.initializer}
    by_row = found[f"{table.name}.int8"] * found[f"{table.name}.scale"]
    scale = np.abs(rows).max() / 127
    by_table = np.rint(rows / scale) * scale

    def noise(rough: NDArray[Any]) -> float:
        return float(np.mean([sqnr_db(rows[i], rough[i]) for i in range(0, 3000, 10)]))

    assert noise(by_row) > 38
    assert noise(by_row) > noise(by_table) + 8


def test_the_float_table_is_kept_where_asked_for(wide: Path, tmp_path: Path) -> None:
    quantize(wide / "fp32", draft(tmp_path / "kept"), embeddings=32)
    assert np.array_equal(named(tmp_path / "kept", TABLE), named(wide / "fp32", TABLE))
    assert not any(name.endswith(".int8") for name in weights(tmp_path / "kept"))
    assert named(wide / "int8", f"{TABLE}.int8").shape == (3000, 128)


def test_a_small_table_is_kept_as_it_is(artifacts: Callable[..., Path]) -> None:
    assert np.array_equal(named(artifacts() / "int8", TABLE), named(artifacts() / "fp32", TABLE))


def test_vectors_stay_close(wide: Path, tmp_path: Path) -> None:
    exact, rough = (OnnxEncoder(wide / stage, threads=1).encode(TEXTS) for stage in ("fp32", "int8"))
    assert sqnr_db(exact, rough) > 27
    assert (exact * rough).sum(axis=1).min() > 0.998
    assert np.abs(exact - rough).max() > 1e-4  # something was quantized
    quantize(wide / "fp32", draft(tmp_path / "seven"), reduce_range=True)
    seven = OnnxEncoder(tmp_path / "seven", threads=1).encode(TEXTS)
    assert 23 < sqnr_db(exact, seven) < sqnr_db(exact, rough)


def test_the_file_is_a_quarter(wide: Path) -> None:
    exact, rough = ((wide / stage / GRAPH).stat().st_size for stage in ("fp32", "int8"))
    assert 0.25 < rough / exact < 0.3


def test_reduced_range_uses_seven_bits(wide: Path, tmp_path: Path) -> None:
    def largest(folder: Path) -> set[int]:
        found = weights(folder)
        return {
            int(np.abs(v.astype(int)).max()) for n, v in found.items() if n.endswith("_quantized") and v.shape[1] != 384
        }

    quantize(wide / "fp32", draft(tmp_path / "seven"), reduce_range=True)
    assert largest(wide / "int8") == {127}
    assert largest(tmp_path / "seven") <= {63, 64}


def test_quantizing_repeats_byte_for_byte(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    made = draft(tmp_path / "again")
    quantize(artifacts("wide") / "fp32", made)
    assert sha256(tmp_path / "again" / GRAPH) == sha256(artifacts("wide") / "int8" / GRAPH)
    assert made.figures["operators"] == run_operators(tmp_path / "again" / GRAPH)


def test_a_broken_graph_is_one_line(wide: Path, tmp_path: Path) -> None:
    path = tmp_path / GRAPH
    path.parent.mkdir()
    for content in (b"no graph", (wide / "fp32" / GRAPH).read_bytes()[:-1000], None):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            quantize(tmp_path, draft(tmp_path / f"int8-{len(content or b'')}"))
        absent = f"{tmp_path}: no {GRAPH}; not an artifact with an ONNX graph"
        assert str(caught.value) == (absent if content is None else f"{path}: missing, or not a whole ONNX graph")


def test_attention_by_products_gives_what_the_fused_one_does(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    home = artifacts(layers=2)
    made = quantize(home / "fp32", draft(tmp_path / "int8"), attention="products")
    found = run_operators(made / GRAPH)
    assert "QAttention" not in found
    assert (found["If"], found["MatMulIntegerToFloat"]) == (2, 6 * 2)
    np.testing.assert_allclose(OnnxEncoder(made).encode(TEXTS), OnnxEncoder(home / "int8").encode(TEXTS), atol=1e-4)


@pytest.mark.parametrize("ranges", ["batch", "calibrated"])
def test_attention_that_cannot_stand_as_products_names_the_field(
    ranges: str, artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    """MPNet's positions are relative: no operator of ONNX Runtime's holds the whole of its attention."""
    to = draft(tmp_path / "int8")
    message = r"^int8\.attention = products: this graph's layers cannot be written so; must be fused$"
    with pytest.raises(ModelError, match=message):
        quantize(artifacts("mpnet") / "fp32", to, attention="products", ranges=ranges)
    assert not (to.folder / GRAPH).exists()
