"""``truncate_dim`` of a graph of others: the graph, the module list and all that is made of both give slices."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import draft
from others import GRAPH as PATH
from others import TEXTS, changed, export_as_others, found, restate, vectors

from compressor.artifact.layout import GRAPH
from compressor.models.sentence_model import TorchEncoder, embedding_dimension, open_model
from exporters.foreign.adopt import adopted, examine, fp32_artifact
from exporters.precision.fp16 import Half
from exporters.runtime.windows import gives_unit_vectors
from exporters.session import OnnxEncoder
from exporters.verify.folder import by_modules

SETTINGS = "config_sentence_transformers.json"


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a model of normalized vectors of 32, of which 8 are kept."""
    folder = Path(shutil.copytree(make_model(layers=2), tmp_path / "model"))
    restate(folder / SETTINGS, truncate_dim=8)
    return folder


@pytest.fixture
def others(model: Path, make_model: Callable[..., Path], tmp_path: Path) -> Path:
    """Return the graph of all 32, beside settings that keep 8."""
    to = export_as_others(make_model(layers=2), tmp_path / "others")
    restate(to / SETTINGS, truncate_dim=8)
    return to


def kinds(folder: Path) -> list[str]:
    return [entry["type"].rpartition(".")[2] for entry in json.loads((folder / "modules.json").read_text())]


def test_graph_and_module_list_give_what_pytorch_does(model: Path, others: Path) -> None:
    expected = TorchEncoder.load(model).encode(TEXTS)
    assert expected.shape[1] == 8
    with adopted(found(others)) as (folder, known):
        encoder = OnnxEncoder(folder)
        assert kinds(folder) == ["Transformer", "Pooling", "Normalize", "Dense"]
        assert not gives_unit_vectors(folder)
        assert known.described().startswith("mean, Normalize, the first 8 (")
        np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
        texts = [text for text in TEXTS if text]
        np.testing.assert_allclose(by_modules(encoder, texts), encoder.encode(texts), atol=1e-5)
        assert embedding_dimension(open_model(model)) == encoder.dim == 8


def test_what_is_made_of_it_states_the_cut(others: Path, tmp_path: Path) -> None:
    with fp32_artifact(found(others)) as folder:
        assert kinds(folder) == ["Transformer", "Pooling", "Normalize", "Dense"]
        Half().run(folder, draft(tmp_path / "fp16"))
        expected = OnnxEncoder(folder).encode(TEXTS[2:])
    made = OnnxEncoder(tmp_path / "fp16")
    assert made.dim == 8
    assert not gives_unit_vectors(tmp_path / "fp16")
    np.testing.assert_allclose(made.encode(TEXTS[2:]), expected, atol=1e-2)
    np.testing.assert_allclose(by_modules(made, TEXTS[2:]), made.encode(TEXTS[2:], batch_size=1), atol=1e-3)


def test_none_is_stated_where_all_are_kept(others: Path) -> None:
    restate(others / SETTINGS, truncate_dim=32)
    with adopted(found(others)) as (folder, _):
        assert kinds(folder) == ["Transformer", "Pooling", "Normalize"]
        assert gives_unit_vectors(folder)


@pytest.mark.parametrize("gives", [("sentence_embedding",), ("token_embeddings", "sentence_embedding")])
def test_a_vector_that_the_graph_gives_is_cut_too(
    make_model: Callable[..., Path], tmp_path: Path, gives: tuple[str, ...]
) -> None:
    others = export_as_others(make_model(layers=2), tmp_path / "others", gives)
    whole = vectors(others)
    restate(others / SETTINGS, truncate_dim=8)
    np.testing.assert_array_equal(vectors(others), whole[:, :8])
    with adopted(found(others)) as (folder, known):
        assert known.described() == "in the graph (sentence_embedding), the first 8"
        onnx.checker.check_model(onnx.load(folder / GRAPH))
        shapes = {value.name: value.type.tensor_type.shape.dim for value in onnx.load(folder / GRAPH).graph.output}
        assert shapes["sentence_embedding"][-1].dim_value == 8
        if len(gives) > 1:
            np.testing.assert_allclose(by_modules(OnnxEncoder(folder), TEXTS[2:]), whole[2:, :8], atol=1e-5)


def test_a_vector_of_half_precision_is_cut_as_floats(make_model: Callable[..., Path], tmp_path: Path) -> None:
    others = export_as_others(make_model(layers=2), tmp_path / "others", ("sentence_embedding",))
    whole = vectors(others)

    def halve(model: onnx.ModelProto) -> None:
        cast = onnx.helper.make_node("Cast", ["sentence_embedding"], ["half"], to=onnx.TensorProto.FLOAT16)
        back = onnx.helper.make_node("Identity", ["half"], ["sentence_embedding"])
        for node in model.graph.node:
            node.output[:] = ["all" if name == "sentence_embedding" else name for name in node.output]
        cast.input[0] = "all"
        model.graph.node.extend([cast, back])
        model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16

    changed(others / PATH, halve)
    restate(others / SETTINGS, truncate_dim=8)
    np.testing.assert_allclose(vectors(others), whole[:, :8], atol=1e-3)


def test_a_cut_to_all_there_is_changes_nothing(make_model: Callable[..., Path], tmp_path: Path) -> None:
    others = export_as_others(make_model(layers=2), tmp_path / "others", ("sentence_embedding",))
    whole = vectors(others)
    restate(others / SETTINGS, truncate_dim=500)
    np.testing.assert_array_equal(vectors(others), whole)
    assert examine(found(others)).described() == "in the graph (sentence_embedding)"
