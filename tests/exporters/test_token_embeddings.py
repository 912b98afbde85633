"""A Dense moved before the pooling: who pools token embeddings gets the artifact's vectors, and the rest stays."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from builders import sentences
from packed import edit_json, seal, view
from plain import plain_session
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from torch import nn

from compressor.artifact.folder import Artifact
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError
from exporters.contracts import check
from exporters.pack.token_embeddings import DIFFERENCE_MAX
from exporters.session import OnnxEncoder

NAME = "token-embeddings"
POOLERS = ["Vespa", "OpenSearch", "Semantic Kernel", "LangChain4j", "Spring AI"]
TEXTS = [*sentences(12), "", "the", "tree " * 100, "unheard of 👍 你好"]


def pooled(folder: Path, texts: list[str], pooling: str = "mean") -> Any:
    """Embed texts as Vespa or Spring AI do it: the first output, pooled by the mask, normalized."""
    encoder = OnnxEncoder(folder, threads=1)
    ids, mask = encoder.pad(encoder.tokenize(texts))
    session = plain_session(folder / GRAPH)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    states = session.run(None, feeds)[0]
    made = states[:, 0] if pooling == "cls" else (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_pooled_token_embeddings_are_the_artifacts_vectors(
    precision: str, sealed: Path, views: Callable[..., Path]
) -> None:
    made, own = views(NAME, precision), OnnxEncoder(sealed / precision, threads=1)
    ids, mask = own.pad(own.tokenize(TEXTS))
    got = pooled(made, TEXTS)
    assert got.shape == (len(TEXTS), 16)
    assert np.abs(got - own.run_ids(ids, mask)).max() < 1e-5
    np.testing.assert_array_equal(OnnxEncoder(made, threads=1).run_ids(ids, mask), own.run_ids(ids, mask))
    figures = Artifact.open(made).figures
    assert figures["largest_difference"] < DIFFERENCE_MAX == 1e-5
    assert figures["needs"]["pooling"] == "mean"


def test_it_serves_those_who_pool_and_whom_the_artifact_served(sealed: Path, views: Callable[..., Path]) -> None:
    before, after = check(sealed / "int8"), check(views(NAME))
    assert {name for name, lines in before.items() if lines} == set(POOLERS)
    assert {name for name, lines in after.items() if lines} == set()
    assert Artifact.open(views(NAME)).figures["serves"] == POOLERS


def test_the_folder_is_the_artifact_without_its_dense(sealed: Path, views: Callable[..., Path]) -> None:
    made, source = views(NAME), sealed / "int8"
    changed = {"README.md", "modules.json", "1_Pooling/config.json", "onnx/model.onnx"}
    left_out = {"2_Dense/config.json", "2_Dense/model.safetensors"}
    own, packed = (Artifact.open(folder).manifest["files"] for folder in (source, made))
    assert own.keys() - packed.keys() == left_out
    assert packed.keys() - own.keys() == {"vocab.txt", "artifact.json"}
    assert {name for name in packed.keys() & own.keys() if packed[name] != own[name]} == changed
    kinds = [one["type"].rpartition(".")[2] for one in json.loads((made / "modules.json").read_text())]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    assert json.loads((made / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"] == 16
    assert "pooled by mean and normalized, it is `sentence_embedding`." in (made / "README.md").read_text()
    [states, vector] = onnxruntime.InferenceSession(made / GRAPH).get_outputs()
    assert (states.name, states.shape) == ("last_hidden_state", ["batch_size", "sequence_length", 16])
    assert (vector.name, vector.shape) == ("sentence_embedding", ["batch_size", 16])


def exported(tiny: Path, home: Path, mode: str, *dense: Dense, normalize: bool = True) -> Path:
    """Hand out the tiny model's transformer with other modules behind it, fp32 and not fused."""
    from graphs import draft

    from exporters.graph.export import Export

    modules: list[Any] = [Transformer(str(tiny), max_seq_length=64), Pooling(32, pooling_mode=mode), *dense]
    model = SentenceTransformer(modules=[*modules, *([Normalize()] if normalize else [])], device="cpu")
    model.save_pretrained(str(home / "model"), create_model_card=False)
    Export().run(home / "model", draft(home / "plain"))
    return seal(home / "plain", home / "sealed", "fp32")


def test_two_layers_and_any_activation_behind_the_first_token(tiny: Path, tmp_path: Path) -> None:
    layers = [Dense(32, 24, activation_function=nn.Tanh()), Dense(24, 8, bias=False, activation_function=nn.Identity())]
    folder = exported(tiny, tmp_path, "cls", *layers)
    got = pooled(view(folder, tmp_path / "view", NAME), TEXTS, "cls")
    assert np.abs(got - OnnxEncoder(folder, threads=1).encode(TEXTS)).max() < 1e-5


@pytest.mark.parametrize(
    ("mode", "activation", "line"),
    [
        ("mean", nn.Tanh, "2_Dense: activation Tanh; such a Dense cannot be moved before mean pooling"),
        ("cls", nn.GELU, "2_Dense: activation GELU; such a Dense cannot be moved before cls pooling"),
        ("max", nn.Identity, "1_Pooling/config.json: pooling_mode_max_tokens; taken are mean or CLS"),
    ],
)
def test_what_cannot_be_moved_is_refused(mode: str, activation: Any, line: str, tiny: Path, tmp_path: Path) -> None:
    folder = exported(tiny, tmp_path, mode, Dense(32, 8, activation_function=activation()))
    with pytest.raises(ArtifactError) as caught:
        view(folder, tmp_path / "view", NAME)
    assert str(caught.value) == f"{folder}/{line}"
    assert not (tmp_path / "view").exists()


def test_an_artifact_without_a_dense_is_taken_as_it_is(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    folder = seal(artifacts() / "fp32", tmp_path / "fp32", "fp32")
    with pytest.raises(ArtifactError, match="no Dense; who pools token embeddings takes it as it is"):
        view(folder, tmp_path / "view", NAME)


def test_a_dense_that_is_not_the_graphs_is_found(sealed: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    plain = Path(shutil.copytree(sealed / "fp32", tmp_path / "plain"))
    stored = load_file(plain / "2_Dense" / "model.safetensors")
    save_file({name: value + 0.01 for name, value in stored.items()}, plain / "2_Dense" / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"pooled token embeddings differ by 0\.\d+; at most 1e-05$"):
        view(seal(plain, tmp_path / "changed", "fp32"), tmp_path / "view", NAME)


def test_a_view_that_serves_nobody_is_refused(sealed: Path, tmp_path: Path) -> None:
    plain = Path(shutil.copytree(sealed / "fp32", tmp_path / "plain"))
    usage = {"prompts": {"query": "two dogs: "}, "default_prompt_name": "query"}
    edit_json(plain / "config_sentence_transformers.json", **usage)
    with pytest.raises(ArtifactError, match=r"none of Vespa, .*, Spring AI can take it: config_sentence_transformers"):
        view(seal(plain, tmp_path / "prompted", "fp32"), tmp_path / "view", NAME)
