"""ONNX graphs that others exported: found, checked, pooled as their folder states, equal to PyTorch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import build_family
from onnx import TensorProto, helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from others import GRAPH, TEXTS, changed, export_as_others, found, refused, restate, vectors

from compressor.artifact.folder import writing
from compressor.core.encoder import Vectors
from compressor.core.errors import ArtifactError
from compressor.models.agreement import cosines
from compressor.models.sentence_model import TorchEncoder
from exporters.foreign.adopt import adopted, examine, fp32_artifact
from exporters.foreign.describe import describe
from exporters.foreign.find import Foreign, foreign_in, own_folder
from exporters.session import OnnxEncoder


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": False},
        {"pooling": "cls"},
        {"pooling": "max"},
        {"pooling": "lasttoken"},
        {"pooling": "weightedmean"},
        {"pooling": "mean_sqrt_len_tokens", "normalize": False},
        {"dense": 12},
        {"dense": 12, "activation": "Identity", "normalize": False},
        {"dense": 12, "activation": "GELU", "normalize": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("opset", [12, 18])
def test_vectors_are_those_of_pytorch(
    make_model: Callable[..., Path], tmp_path: Path, options: dict[str, Any], opset: int
) -> None:
    model = make_model(layers=2, **options)
    expected = TorchEncoder.load(model).encode(TEXTS)
    actual = vectors(export_as_others(model, tmp_path / "others", opset=opset))
    assert np.abs(expected).max() > 0.1
    assert np.abs(actual - expected).max() < 1e-5


@pytest.mark.parametrize("family", ["roberta", "distilbert", "mpnet"])
def test_families_without_token_types(tmp_path: Path, family: str) -> None:
    model = build_family(tmp_path / "model", family)
    others = export_as_others(model, tmp_path / "others")
    assert "token_type_ids" not in [value.name for value in onnx.load(others / GRAPH).graph.input]
    assert np.abs(vectors(others) - TorchEncoder.load(model).encode(TEXTS)).max() < 1e-5


@pytest.mark.parametrize("gives", [("token_embeddings", "sentence_embedding"), ("sentence_embedding",)])
def test_a_text_s_vector_is_taken_as_the_graph_gives_it(tiny: Path, tmp_path: Path, gives: tuple[str, ...]) -> None:
    others = export_as_others(tiny, tmp_path / "others", gives)
    assert np.abs(vectors(others) - TorchEncoder.load(tiny).encode(TEXTS)).max() < 1e-5
    with adopted(found(others)) as (folder, known):
        outputs = [output.name for output in onnx.load(folder / GRAPH).graph.output]
        assert outputs == ["last_hidden_state", "sentence_embedding"][-len(gives) :]
        assert known.described() == "in the graph (sentence_embedding)"


def test_further_outputs_are_left_out(own: Path) -> None:
    expected = vectors(own)

    def pooler(model: Any) -> None:
        model.graph.node.append(helper.make_node("Identity", ["last_hidden_state"], ["pooler_output"]))
        model.graph.output.append(helper.make_tensor_value_info("pooler_output", TensorProto.FLOAT, None))

    changed(own / GRAPH, pooler)
    np.testing.assert_array_equal(vectors(own), expected)
    with adopted(found(own)) as (folder, _):
        assert len(onnx.load(folder / GRAPH).graph.output) == 2


def test_half_precision_comes_as_float32(own: Path) -> None:
    expected = vectors(own)
    onnx.save(convert_float_to_float16(onnx.load(own / GRAPH)), own / GRAPH)
    assert onnx.load(own / GRAPH).graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    near = cosines(vectors(own), expected)
    assert 0.999 < near.min() < 1 - 1e-9
    assert examine(found(own)).precision == "fp16"
    with pytest.raises(ArtifactError, match="fp16 already; int8 and fp16 are made from the fp32 graph"):
        fp32_artifact(found(own)).__enter__()


@pytest.fixture
def dynamic(own: Path) -> Path:
    """Return a folder with the graph in int8 beside it, as optimum quantizes it."""
    quantize_dynamic(str(own / GRAPH), str(own / "onnx/model_quantized.onnx"), weight_type=QuantType.QInt8)
    return own


def test_int8_with_ranges_a_batch(dynamic: Path) -> None:
    graph = dynamic / "onnx/model_quantized.onnx"
    assert 0.9 < cosines(vectors(graph), vectors(dynamic)).mean() < 1 - 1e-6
    known = examine(found(graph))
    said = describe(found(graph), known)
    assert known.precision == "int8"
    assert said["precision"] == "int8 stored, 24 of 24 products with weights in integers"
    assert said["ranges"] == "each batch's own: a text's vector depends on the texts beside it"
    assert (said["graph"], said["other_graphs"]) == ("onnx/model_quantized.onnx", [GRAPH])
    assert said["operators"]["DynamicQuantizeLinear"] > 0


def test_what_fp32_is_said_to_be(own: Path) -> None:
    said = describe(found(own), examine(found(own)))
    assert (said["precision"], said["ranges"]) == ("fp32", "none: a text's vector is its own")
    assert said["vectors"] == "mean, Normalize (1_Pooling/config.json)"
    assert (said["opsets"], said["max_length"]) == ({"ai.onnx": 14}, 64)
    assert said["fused"]["normalization"] == 9  # two of each of four layers, and that of the embeddings
    assert said["fused"]["attention"] + _counted(said["not_fused"], "attention") == 4
    assert said["fused"]["gelu"] + _counted(said["not_fused"], "gelu") == 4
    header = sum(np.prod(t.dims) for t in onnx.load(own / GRAPH).graph.initializer)
    assert header <= said["parameters"] < 1.01 * header + 1000


def _counted(listed: list[str], part: str) -> int:
    line = next((line for line in listed if line.startswith(part)), "0 (0 none)")
    return int(line.partition("(")[2].split()[0])


# Which graph is meant


def test_the_default_graph(own: Path, tmp_path: Path) -> None:
    for name in ("onnx/model_O3.onnx", "model.onnx"):
        shutil.copy(own / GRAPH, own / name)
    assert found(own).name == GRAPH
    (own / GRAPH).unlink()
    assert found(own).name == "model.onnx"
    (own / "model.onnx").unlink()
    assert found(own).name == "onnx/model_O3.onnx"  # the only one
    shutil.copy(own / "onnx/model_O3.onnx", own / "onnx/model_O4.onnx")
    line = refused(own)
    assert "graphs onnx/model_O3.onnx, onnx/model_O4.onnx, and none is onnx/model.onnx or model.onnx; give one" in line
    assert found(own / "onnx/model_O4.onnx") == Foreign(own, "onnx/model_O4.onnx")


def test_settings_beside_the_graph(own: Path) -> None:
    for path in list(own.iterdir()):
        if path.name != "onnx":
            shutil.move(path, own / "onnx" / path.name)
    assert found(own / GRAPH) == Foreign(own / "onnx", "model.onnx")


def test_a_pytorch_folder_is_that_unless_its_graph_is_given(tiny: Path, own: Path) -> None:
    shutil.copy(tiny / "model.safetensors", own)
    assert foreign_in(own) is None
    assert found(own / GRAPH).name == GRAPH


def test_own_artifacts_are_none(artifacts: Callable[..., Path], tiny: Path, tmp_path: Path) -> None:
    with writing(tmp_path / "sealed", "optimise", "key") as draft:
        shutil.copytree(artifacts() / "fp32", draft.folder, dirs_exist_ok=True)
    assert foreign_in(tmp_path / "sealed") is None
    assert foreign_in(tmp_path / "sealed" / GRAPH) is None
    assert own_folder(tmp_path / "sealed" / GRAPH) == tmp_path / "sealed"
    for path in (tiny, tmp_path, tmp_path / "none", tiny / "config.json"):
        assert (foreign_in(path), own_folder(path)) == (None, None)


def test_an_artifact_without_its_manifest_is_taken_all_the_same(artifacts: Callable[..., Path]) -> None:
    for name in ("fp32", "int8"):
        expected = OnnxEncoder(artifacts() / name, threads=2).encode(TEXTS, batch_size=8)
        np.testing.assert_array_equal(vectors(artifacts() / name), expected)


def test_graphs_of_readers_are_none(own: Path) -> None:
    (own / "modules.json").unlink()
    restate(own / "config.json", architectures=["BertForQuestionAnswering"])
    assert foreign_in(own) is None


def test_a_broken_manifest_makes_no_stranger(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(artifacts() / "fp32", tmp_path / "broken"))
    (folder / "manifest.json").write_text("{")
    (folder / GRAPH).write_bytes(b"no graph")
    assert foreign_in(folder) is None


# What the folder states


def test_pooling_that_is_stated_nowhere(tiny: Path, make_model: Callable[..., Path], own: Path) -> None:
    (own / "modules.json").unlink()
    shutil.rmtree(own / "1_Pooling")
    unit = TorchEncoder.load(tiny).encode(TEXTS)
    assert np.abs(_unit(vectors(own)) - unit).max() < 1e-5
    assert examine(found(own)).described() == "mean (stated nowhere)"
    cls = TorchEncoder.load(make_model(pooling="cls")).encode(TEXTS)  # the same weights: the same seed
    assert np.abs(_unit(vectors(own, "cls")) - cls).max() < 1e-5
    assert np.abs(_unit(vectors(own, "last")) - cls).max() > 0.01
    assert refused(own, "best") == "--pooling 'best': must be mean, cls, last"


def _unit(rows: Vectors) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def test_pooling_that_is_stated_is_kept(own: Path) -> None:
    assert "--pooling 'cls': 1_Pooling/config.json of" in refused(own, "cls")
    (own / "modules.json").unlink()  # without which it is the pooling alone
    assert examine(found(own)).described() == "mean (1_Pooling/config.json)"


@pytest.mark.parametrize("old", [True, False])
def test_both_spellings_of_pooling(own: Path, old: bool) -> None:
    expected = vectors(own)
    settings = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    new = {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}
    (own / "1_Pooling/config.json").write_text(json.dumps(settings if old else new))
    np.testing.assert_array_equal(vectors(own), expected)
    (own / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": ["cls", "mean"]}))
    assert vectors(own).shape == (len(TEXTS), 64)
    (own / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode": "median"}))
    assert "pooling_mode = 'median': must be of cls, max, mean" in refused(own)


def test_prompts_and_length_are_kept(own: Path) -> None:
    restate(own / "config_sentence_transformers.json", prompts={"query": "the "}, default_prompt_name="query")
    restate(own / "sentence_bert_config.json", max_seq_length=9)
    with adopted(found(own)) as (folder, _):
        encoder = OnnxEncoder(folder)
        assert encoder.max_length == 9
        assert encoder.tokenize(["cat " * 20]) == [encoder.tokenize(["the " + "cat " * 20], "")[0]]
        assert len(encoder.tokenize(["cat " * 20])[0]) == 9


def test_the_side_that_texts_are_cut_on(own: Path) -> None:
    restate(own / "sentence_bert_config.json", max_seq_length=4)
    with adopted(found(own)) as (folder, _):
        right = OnnxEncoder(folder).tokenize(["cat dog bird man"])
    restate(own / "tokenizer_config.json", truncation_side="left")
    with adopted(found(own)) as (folder, _):
        left = OnnxEncoder(folder).tokenize(["cat dog bird man", "bird man"])
    assert left[0] == left[1] != right[0]


def test_small_letters_first(tiny: Path, own: Path) -> None:
    tokens = json.loads((own / "tokenizer.json").read_text())
    (own / "tokenizer.json").write_text(json.dumps(tokens | {"normalizer": None}))
    restate(own / "sentence_bert_config.json", do_lower_case=True)
    with adopted(found(own)) as (folder, _):
        encoder = OnnxEncoder(folder)
        assert encoder.tokenize(["The CAT"]) == encoder.tokenize(["the cat"])
    restate(own / "sentence_bert_config.json", do_lower_case=False)
    with adopted(found(own)) as (folder, _):
        encoder = OnnxEncoder(folder)
        assert encoder.tokenize(["The CAT"]) != encoder.tokenize(["the cat"])


def test_length_that_only_the_tokenizer_states(own: Path) -> None:
    (own / "sentence_bert_config.json").unlink()
    restate(own / "tokenizer_config.json", model_max_length=24)
    assert examine(found(own)).stated.max_length == 24
    restate(own / "tokenizer_config.json", model_max_length=int(1e30))
    assert examine(found(own)).stated.max_length == 64  # the model's positions
    restate(own / "config.json", max_position_embeddings=None)
    assert "states no length of a text" in refused(own)


def test_vectors_cut_short(own: Path) -> None:
    expected = vectors(own)
    restate(own / "config_sentence_transformers.json", truncate_dim=8)
    assert np.abs(vectors(own) - expected[:, :8]).max() < 1e-6


# What is not trusted


def test_code_that_a_config_names_is_left_behind(own: Path) -> None:
    restate(own / "config.json", auto_map={"AutoModel": "evil.Model"}, _name_or_path="/home/me")
    with adopted(found(own)) as (folder, _):
        stated = json.loads((folder / "config.json").read_text())
    assert not {"auto_map", "_name_or_path"} & stated.keys()
    assert stated["model_type"] == "bert"


# As an fp32 artifact


@pytest.mark.parametrize("opset", [12, 14, 17])
def test_an_fp32_artifact_is_fused_and_of_a_known_opset(tiny: Path, tmp_path: Path, opset: int) -> None:
    others = export_as_others(tiny, tmp_path / "others", opset=opset)
    with fp32_artifact(found(others)) as folder:
        model = onnx.load(folder / GRAPH)
        assert {entry.version for entry in model.opset_import if entry.domain == ""} == {17}
        kinds = [node.op_type for node in model.graph.node]
        assert (kinds.count("Attention"), kinds.count("LayerNormalization")) == (4, 9)
        assert (folder / "conformance/cases.json").is_file()
        assert np.abs(OnnxEncoder(folder).encode(TEXTS) - vectors(others)).max() < 1e-5


def test_a_family_that_is_not_known_stays_as_it_is(own: Path) -> None:
    restate(own / "config.json", model_type="new_here")
    with fp32_artifact(found(own)) as folder:
        assert "Attention" not in [node.op_type for node in onnx.load(folder / GRAPH).graph.node]
        np.testing.assert_allclose(OnnxEncoder(folder).encode(TEXTS), vectors(own), atol=1e-6)


def test_a_text_s_vector_alone_makes_no_artifact(tiny: Path, tmp_path: Path) -> None:
    others = export_as_others(tiny, tmp_path / "others", ("sentence_embedding",))
    with pytest.raises(ArtifactError, match="gives sentence_embedding alone; an artifact gives last_hidden_state, too"):
        fp32_artifact(found(others)).__enter__()
