"""Views that need a package of their own: MLflow's model, and the tokenizer as an operator."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from builders import sentences
from packed import edit_json, seal, view

from compressor.artifact.folder import Artifact
from compressor.core.errors import ArtifactError
from exporters.pack.tokenizer_in_graph import GUARD, HARD
from exporters.session import OnnxEncoder

pytestmark = pytest.mark.packages


@pytest.fixture
def mlflow() -> Any:
    return pytest.importorskip("mlflow", reason="mlflow is not installed")


@pytest.fixture
def extensions() -> Any:
    return pytest.importorskip("onnxruntime_extensions", reason="onnxruntime-extensions is not installed")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_mlflows_pyfunc_gives_the_artifacts_vectors(mlflow: Any, precision: str, sealed: Path, tmp_path: Path) -> None:
    made, encoder = view(sealed / precision, tmp_path / "view", "mlflow"), OnnxEncoder(sealed / precision, threads=1)
    ids, mask = encoder.pad(encoder.tokenize(sentences(10)))
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    got = mlflow.pyfunc.load_model(str(made / "model")).predict(given)
    np.testing.assert_array_equal(got["sentence_embedding"], encoder.run_ids(ids, mask))
    loaded = mlflow.models.Model.load(str(made / "model"))
    assert loaded.metadata["artifact"] == json.loads((sealed / precision / "manifest.json").read_text())["key"]
    assert [(one.name, one.shape) for one in loaded.signature.outputs.inputs] == [
        ("last_hidden_state", (-1, -1, 32)),
        ("sentence_embedding", (-1, 16)),
    ]
    assert [p.name for p in (made / "model").glob("*.onnx*")] == ["model.onnx"]  # no external data
    with pytest.raises(mlflow.exceptions.MlflowException):  # the signature is enforced
        mlflow.pyfunc.load_model(str(made / "model")).predict({"input_ids": ids.astype(np.float32)})


def test_mlflow_takes_a_reader(mlflow: Any, reader: Path, tmp_path: Path) -> None:
    made = view(reader / "int8", tmp_path / "view", "mlflow")
    signature = mlflow.models.Model.load(str(made / "model")).signature
    assert [(one.name, one.shape) for one in signature.outputs.inputs] == [
        ("start_logits", (-1, -1)),
        ("end_logits", (-1, -1)),
    ]
    assert (made / "reading.json").read_bytes() == (reader / "int8" / "reading.json").read_bytes()


def opened(folder: Path) -> Callable[[str], Any]:
    """Return the view's graph as a function of a text."""
    from onnxruntime_extensions import get_library_path

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    assert [(v.name, v.type, v.shape) for v in session.get_inputs()] == [("text", "tensor(string)", [1])]
    assert [value.name for value in session.get_outputs()] == ["sentence_embedding"]
    return lambda text: session.run(None, {"text": np.array([text], dtype=object)})[0]


def vector_or_reason(embed: Callable[[str], Any], text: str) -> Any:
    """Return a text's vector, or why the graph gave none."""
    try:
        return embed(text)
    except Exception as error:  # ONNX Runtime raises its own kinds
        return str(error)


def test_a_tokenizer_that_differs_is_refused_by_the_text(extensions: Any, sealed: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        view(sealed / "fp32", tmp_path / "view", "tokenizer-in-graph")
    line = str(caught.value)
    found = re.search(r'text ("(?:[^"\\]|\\.)*"): BertTokenizer of onnxruntime-extensions gives other ids', line)
    assert found is not None, line
    assert any(text.startswith(json.loads(found[1]).removesuffix("…")) for text in HARD)
    assert line.endswith("--restrict true makes a graph that refuses such texts")
    assert not (tmp_path / "view").exists()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_restricted_graph_gives_the_artifacts_vectors_or_an_error(
    extensions: Any, precision: str, sealed: Path, tmp_path: Path
) -> None:
    made = view(sealed / precision, tmp_path / "view", "tokenizer-in-graph", restrict=True)
    embed, encoder = opened(made), OnnxEncoder(sealed / precision, threads=1)
    given = refused = 0
    for text in (*HARD, *sentences(50), "The Cat sees\tthe RIVER.", "tree " * 100):
        got = vector_or_reason(embed, text)
        if isinstance(got, str):
            assert GUARD in got
            refused += 1
        else:
            np.testing.assert_array_equal(got, encoder.encode([text]), err_msg=text)
            given += 1
    assert given > 55
    assert refused > 15
    for text in ("the [SEP] cat", "[CLS]", "the cat\u0110", "cat👍"):
        with pytest.raises(Exception, match=GUARD):
            embed(text)
    ranges = json.loads((made / "characters.json").read_text())
    assert ["U+0061", "U+007A"] in ranges or any(first <= "U+0061" and last >= "U+007A" for first, last in ranges)
    figures = json.loads((made / "manifest.json").read_text())["figures"]
    assert figures["characters"] == sum(int(b[2:], 16) - int(a[2:], 16) + 1 for a, b in ranges)


def changed(artifacts: Callable[..., Path], tmp_path: Path, name: str, **changes: object) -> Path:
    """Return a hand-out with changes to one of its JSON files."""
    plain = seal(artifacts(dense=16) / "fp32", tmp_path / "plain", "fp32")
    edit_json(plain / name, **changes)
    return seal(plain, tmp_path / "changed", "fp32")


def test_a_default_prompt_is_put_before_the_text(
    extensions: Any, artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    usage = {"prompts": {"query": "two dogs: "}, "default_prompt_name": "query"}
    folder = changed(artifacts, tmp_path, "config_sentence_transformers.json", **usage)
    made = view(folder, tmp_path / "view", "tokenizer-in-graph", restrict=True)
    prompts = Artifact.open(made).figures["needs"]["prompts"]
    assert (prompts["default"], prompts["put_by"]) == ("two dogs: ", "the graph: the default one, and no other")
    expected = OnnxEncoder(folder, threads=1).encode(["the cat"])
    np.testing.assert_array_equal(opened(made)("the cat"), expected)
    assert np.abs(expected - OnnxEncoder(artifacts(dense=16) / "fp32").encode(["the cat"])).max() > 1e-3


def test_a_tokenizer_of_another_kind_is_refused(
    extensions: Any, artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    folder = changed(artifacts, tmp_path, "tokenizer.json", pre_tokenizer={"type": "Whitespace"})
    with pytest.raises(ArtifactError, match=r"tokenizer.json: WordPiece, BertNormalizer, Whitespace; tokenizer-in-gr"):
        view(folder, tmp_path / "view", "tokenizer-in-graph")


def test_a_difference_in_the_operator_is_found(
    extensions: Any, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exporters.pack import tokenizer_in_graph as module

    right = module.word_piece
    monkeypatch.setattr(module, "word_piece", lambda *given: right(*given) | {"do_lower_case": 0})
    monkeypatch.setattr(module, "HARD", ("the cat", "The cat"))
    with pytest.raises(ArtifactError, match='text "The cat": BertTokenizer of onnxruntime-extensions gives other ids'):
        view(sealed / "fp32", tmp_path / "view", "tokenizer-in-graph")
