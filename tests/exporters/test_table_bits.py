"""A vocabulary's table in 4 bits: as exact as its blocks allow, the products as they were, and checked as any graph."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from builders import sentences
from graphs import draft, quantize, sqnr_db
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from packed import view
from plain import plain_session
from tokenizers import Tokenizer
from typer.testing import CliRunner

from benchmarks.quality.story import parameters
from compressor.artifact.folder import Artifact, writing
from compressor.artifact.layout import GRAPH, INTEGER_PRODUCTS
from compressor.artifact.runners.run import failures
from compressor.cli.app import app
from compressor.core.errors import RecipeError
from compressor.untrusted.inspection import inspect
from exporters.graph.files import load, run_operators
from exporters.precision.calibrate import batches_of_texts
from exporters.precision.int8 import OnnxInt8
from exporters.precision.tables import BLOCK, quantize_blocks, quantize_tables
from exporters.publish.template import template
from exporters.search.forms import Form, Forms
from exporters.session import OnnxEncoder
from exporters.verify.check import int8_share, precision_of
from exporters.verify.conformance import write_conformance

TEXTS = sentences(64)
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def wide(artifacts: Callable[..., Path]) -> Path:
    """Two layers, 128 wide, a table of 3,000 rows."""
    return artifacts("wide")


@pytest.fixture(scope="module")
def small(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wide encoder's int8 form with a table of 4 bits."""
    return quantize(wide / "fp32", draft(tmp_path_factory.mktemp("small") / "int8"), embeddings=4)


def uneven(rows: int, columns: int, seed: int = 0) -> Floats:
    """Return rows of different lengths, as trained ones have."""
    random = np.random.default_rng(seed)
    made = random.standard_normal((rows, columns)) * np.geomspace(0.05, 1, rows)[:, None] / 20
    return np.asarray(made, np.float32)


def as_floats(codes: NDArray[Any], scales: NDArray[Any]) -> Floats:
    steps = np.repeat(scales.astype(np.float32), BLOCK, axis=1)[:, : codes.shape[1]]
    return np.asarray((codes.astype(np.float32) - 8) * steps, np.float32)


def lookup(table: Floats, *more: onnx.NodeProto, read: str = "input_ids", **stored: NDArray[Any]) -> onnx.ModelProto:
    nodes = [*more, helper.make_node("Gather", ["table", read], ["out"], "first")]
    taken = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])]
    given = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    values = [numpy_helper.from_array(value, name) for name, value in {"table": table, **stored}.items()]
    graph = helper.make_graph(nodes, "g", taken, given, values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, ids: NDArray[np.int64]) -> Floats:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input_ids": ids})[0])


def names_of(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


def packed(graph: Path) -> list[str]:
    return [name for name in names_of(load(graph)) if name.endswith(".int4")]


def test_the_search_beats_the_largest_number_as_the_range() -> None:
    rows = uneven(2000, 96)
    found = as_floats(*quantize_blocks(rows))
    blocks = rows.reshape(-1, BLOCK)
    plain = np.abs(blocks).max(axis=1, keepdims=True) / 7
    by_largest = (np.clip(np.rint(blocks / plain), -8, 7) * plain).reshape(rows.shape)
    assert sqnr_db(rows, found) > 21.5
    assert sqnr_db(rows, found) > sqnr_db(rows, by_largest) + 1
    errors = [np.square(rows - made).reshape(-1, BLOCK).sum(axis=1) for made in (found, by_largest)]
    assert (errors[0] > 1.05 * errors[1]).mean() < 0.05


def test_a_block_of_zeros_and_one_of_a_single_number() -> None:
    rows = np.zeros((3, 64), np.float32)
    rows[1, 5], rows[2, 40] = 0.25, -0.25
    codes, scales = quantize_blocks(rows)
    np.testing.assert_allclose(as_floats(codes, scales), rows, atol=2e-4)
    assert (codes[0] == 8).all()
    assert not as_floats(codes, scales)[0].any()


@pytest.mark.parametrize(("length", "kind"), [(1.0, np.float16), (1e-6, np.float32), (1e7, np.float32)])
def test_scales_that_float16_does_not_hold_are_floats(length: float, kind: type) -> None:
    rows = uneven(50, 64) * np.float32(length)
    codes, scales = quantize_blocks(rows)
    assert scales.dtype == kind
    assert sqnr_db(rows, as_floats(codes, scales)) > 20


@pytest.mark.parametrize("width", [16, 33, 48, 64, 130])
@pytest.mark.parametrize("length", [1.0, 1e-6])
def test_onnx_runtime_reads_what_was_written(width: int, length: float) -> None:
    rows = uneven(1000, width) * np.float32(length)
    wanted, model = as_floats(*quantize_blocks(rows)), lookup(rows)
    quantize_tables(model, 4)
    assert {node.domain for node in model.graph.node} == {""}
    assert ("Slice" in {node.op_type for node in model.graph.node}) is (width % BLOCK > 0)
    ids = np.array([[0, 999, 7], [7, 500, 1]], np.int64)
    made = run(model, ids)
    assert made.dtype == np.float32
    np.testing.assert_array_equal(made, wanted[ids])
    with pytest.raises(Exception, match="out of data bounds"):
        run(model, np.array([[1000]], np.int64))


def test_ids_that_are_cast_first_are_the_vocabularys_too() -> None:
    cast = helper.make_node("Cast", ["input_ids"], ["short"], to=TensorProto.INT32)
    model = lookup(uneven(1000, 64), cast, read="short")
    quantize_tables(model, 4)
    assert names_of(model) >= {"table.int4", "table.scale"}


@pytest.mark.parametrize(("rows", "bits", "stored"), [(2000, 4, "int8"), (256, 4, "int8"), (255, 4, ""), (512, 8, "")])
def test_a_table_of_positions_has_8_bits_beside_one_of_4(rows: int, bits: Any, stored: str) -> None:
    steps = [
        helper.make_node("Shape", ["input_ids"], ["shape"], start=1),
        helper.make_node("Squeeze", ["shape"], ["length"]),
        helper.make_node("Range", ["zero", "length", "one"], ["places"]),
    ]
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    model = lookup(uneven(rows, 64), *steps, read="places", zero=zero, one=one)
    quantize_tables(model, bits)
    assert {"table", "table.int8", "table.int4"} & names_of(model) == {f"table.{stored}" if stored else "table"}


def test_the_products_are_as_they_were_and_the_file_is_smaller(small: Path, wide: Path) -> None:
    found, before = run_operators(small / GRAPH), run_operators(wide / "int8" / GRAPH)
    assert len(packed(small / GRAPH)) == 1
    products = {kind: before[kind] for kind in INTEGER_PRODUCTS if kind in before}
    assert products
    assert {kind: found[kind] for kind in products} == products
    saved = (wide / "int8" / GRAPH).stat().st_size - (small / GRAPH).stat().st_size
    assert saved == pytest.approx(3000 * (128 * 0.5 + 4 - 2 * 4), rel=0.02)  # 4 scales of 2 bytes for one of 4
    assert parameters(small) == pytest.approx(parameters(wide / "int8"), rel=0.03)


def test_vectors_stay_close_and_a_text_is_its_own(small: Path, wide: Path) -> None:
    exact, eight, four = (OnnxEncoder(f, threads=1) for f in (wide / "fp32", wide / "int8", small))
    vectors = exact.encode(TEXTS)
    cosines = (vectors * four.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.97
    assert 1e-4 < 1 - cosines.mean() < 0.02
    assert cosines.mean() < (vectors * eight.encode(TEXTS)).sum(axis=1).mean()
    alone = np.concatenate([four.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(four.encode(TEXTS), alone, atol=1e-6)


def test_making_it_repeats_byte_for_byte(small: Path, wide: Path, tmp_path: Path) -> None:
    again = quantize(wide / "fp32", draft(tmp_path / "again"), embeddings=4)
    assert (again / GRAPH).read_bytes() == (small / GRAPH).read_bytes()


@pytest.mark.parametrize(
    "changes", [{"attention": "products"}, {"written": "qdq"}, {"ranges": "batch", "gelu": "with-bias"}]
)
def test_every_form_of_a_search_keeps_the_table(changes: dict[str, str], wide: Path, tmp_path: Path) -> None:
    fp32 = wide / "fp32"
    forms = Forms(fp32, OnnxInt8(embeddings=4), lambda: batches_of_texts(fp32, TEXTS))
    forms.write(Form.read(changes), tmp_path / "model.onnx")
    assert len(packed(tmp_path / "model.onnx")) == 1
    forms.write(Form(precision="fp32", gelu="with-bias"), tmp_path / "fp32.onnx")
    assert not packed(tmp_path / "fp32.onnx")


def hand_out(made: Path, to: Path) -> Path:
    with writing(to, "artifacts/int8", "key", {"precision": "int8"}) as made_of:
        shutil.copytree(made, made_of.folder, dirs_exist_ok=True)
        write_conformance(made_of.folder, "int8")
    return to


def test_it_is_inspected_and_conforms(small: Path, tmp_path: Path) -> None:
    folder = hand_out(small, tmp_path / "made")
    found = {one.check: one.found for one in inspect(folder)}
    assert "runs and gives vectors of 128" in found["graph"]
    session = plain_session(folder / GRAPH)
    cases = json.loads((folder / "conformance/cases.json").read_text())
    assert list(failures(cases, Tokenizer.from_file(str(folder / "tokenizer.json")), session)) == []


def test_the_view_for_phones_gives_the_same(small: Path, tmp_path: Path) -> None:
    made = view(hand_out(small, tmp_path / "made"), tmp_path / "ort", "ort")
    encoder = OnnxEncoder(small, threads=1)
    own, session = (
        onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        for graph in (small / GRAPH, made / "model.ort")
    )
    ids, mask = encoder.pad(encoder.tokenize(TEXTS[:8]))
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    [vectors] = session.run(["sentence_embedding"], feeds)
    np.testing.assert_array_equal(vectors, own.run(["sentence_embedding"], feeds)[0])
    assert [one.check for one in inspect(made)][:3] == ["files", "settings", "graph"]


def test_a_static_encoder_counts_as_int8(tmp_path: Path) -> None:
    (tmp_path / GRAPH).parent.mkdir(parents=True)
    model = lookup(uneven(1000, 64))
    quantize_tables(model, 4)
    onnx.save(model, tmp_path / GRAPH)
    assert int8_share(tmp_path / GRAPH) == pytest.approx(64 / (64 + 2), rel=1e-3)
    assert precision_of(tmp_path) == "int8"


def test_the_card_says_so() -> None:
    known: dict[str, Any] = {
        "name": "tiny", "precision": "int8", "teacher": "a", "teacher_sha256": "b", "licence": None, "checks": [],
        "task": "t", "tags": "x", "outputs": "vectors",
    }  # fmt: skip
    card = template("card.md.j2")
    assert "vocabulary's table has 4 bits a number" in card.render(**known, in_4_bits=True, sums_saturate=False)
    assert "4 bits" not in card.render(**known, in_4_bits=False, sums_saturate=True)


def test_the_command_takes_the_bits_and_refuses_others(wide: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences(300)), "utf-8")
    line = f"quantize {wide / 'fp32'} --out {tmp_path / 'int8'} --texts {tmp_path / 'texts.txt'} --embeddings 4"
    done = CliRunner().invoke(app, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len(packed(tmp_path / "int8" / GRAPH)) == 1
    with pytest.raises(RecipeError, match=r"embeddings = 5: input should be 8, 4 or 32"):
        OnnxInt8.read({"embeddings": 5})
    with pytest.raises(RecipeError, match=r"embeddings = true: input should be 8, 4 or 32"):
        OnnxInt8.read({"embeddings": True})


def test_a_search_takes_the_bits_and_hands_them_on(wide: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences(400)), "utf-8")
    line = (
        f"optimise {wide / 'fp32'} --out {tmp_path / 'fast'} --texts {tmp_path / 'texts.txt'} --cpu any --embeddings 4"
    )
    bars = " --cosine-mean 0.5 --cosine-min 0.3 --neighbours-at-10 0.2"
    done = CliRunner().invoke(app, (line + bars).split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert len(packed(tmp_path / "fast" / GRAPH)) == 1
    assert Artifact.open(tmp_path / "fast").figures["embeddings"] == 4
    refused = CliRunner().invoke(app, (line.replace("--embeddings 4", "--embeddings 5")).split())
    assert 'embeddings = "5": input should be 8, 4 or 32' in str(refused.exception or refused.output)
