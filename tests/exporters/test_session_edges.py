"""What an open encoder refuses in one line, and what it reads once."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from builders import sentences
from onnx import helper
from packed import edit_json

from compressor.artifact.folder import Artifact
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError, ProviderError
from compressor.vectors.codes import RANGES, Ranges
from exporters.loading import open_reader_of
from exporters.pack.target import Contents
from exporters.pack.tokenizer_in_graph import word_piece
from exporters.reader import OnnxReader
from exporters.runtime.providers import require_providers
from exporters.session import OnnxEncoder


@pytest.fixture
def folder(artifacts: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifacts() / "fp32", tmp_path / "made"))


def test_ranges_are_read_once_and_from_the_folder_that_was_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = sentences(5)
    monkeypatch.chdir(tmp_path)
    encoder = OnnxEncoder("made")
    with pytest.raises(ArtifactError, match=rf"{RANGES}: no such file, and int8 and uint8 vectors need its ranges; "):
        encoder.encode(texts, precision="int8")
    Ranges.fit(encoder.encode(texts)).save(folder)
    expected = encoder.encode(texts, precision="int8")  # made meanwhile: they are found
    (other := tmp_path / "elsewhere").mkdir()
    os.chdir(other)
    np.testing.assert_array_equal(OnnxEncoder(folder).encode(texts, precision="int8"), expected)
    np.testing.assert_array_equal(encoder.encode(texts, precision="int8"), expected)
    (folder / RANGES).unlink()
    np.testing.assert_array_equal(next(encoder.stream(texts, precision="int8")), expected)
    with pytest.raises(ArtifactError):
        OnnxEncoder(folder).encode(texts, precision="int8")


def test_ranges_are_found_from_another_folder_at_their_first_use(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder = OnnxEncoder("made")
    Ranges.fit(encoder.encode(sentences(5))).save(folder)
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    assert encoder.encode(["a"], precision="uint8").dtype == np.uint8


@pytest.mark.parametrize("width", ["dim", None])
def test_a_vector_of_no_fixed_width_names_graph_and_shape(folder: Path, width: str | None) -> None:
    model = onnx.load(folder / GRAPH)
    for node in model.graph.node:
        node.output[:] = ["whole" if name == "sentence_embedding" else name for name in node.output]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(-1, np.float32), "below"))
    model.graph.node.extend(  # which components are kept is seen as it runs
        [
            helper.make_node("ReduceMax", ["whole"], ["most"], axes=[0], keepdims=0),
            helper.make_node("Greater", ["most", "below"], ["kept"]),
            helper.make_node("Compress", ["whole", "kept"], ["sentence_embedding"], axis=1),
        ]
    )
    dim = model.graph.output[1].type.tensor_type.shape.dim[-1]
    dim.Clear()
    if width is not None:
        dim.dim_param = width
    onnx.save(model, folder / GRAPH)
    with pytest.raises(ArtifactError) as caught:
        OnnxEncoder(folder)
    shape = f"sentence_embedding has shape ['batch_size', {width!r}]"
    assert str(caught.value) == f"{folder / GRAPH}: {shape}; must be [batch, a fixed width]"


@pytest.mark.parametrize("open_it", [OnnxEncoder, OnnxReader], ids=["encoder", "reader"])
def test_one_provider_where_a_list_belongs_is_refused(open_it: Callable[..., object], folder: Path) -> None:
    line = "providers = 'CPUExecutionProvider': must be a list of providers, as ['CPUExecutionProvider']"
    with pytest.raises(ProviderError) as caught:
        open_it(folder, providers="CPUExecutionProvider")
    assert str(caught.value) == line
    with pytest.raises(ProviderError) as caught:
        require_providers("CPUExecutionProvider")
    assert str(caught.value) == line


def test_a_reader_of_whatever_kind_refuses_it_too(reader: Path) -> None:
    with pytest.raises(ProviderError, match=r"^providers = 'CPUExecutionProvider': must be a list of providers"):
        open_reader_of(reader / "fp32", providers="CPUExecutionProvider")


@pytest.mark.parametrize("name", ["unk_token", "mask_token"])
def test_a_tokenizer_in_a_graph_needs_all_special_tokens(sealed: Path, tmp_path: Path, name: str) -> None:
    contents = Contents.read(Artifact.open(sealed / "int8"), "tokenizer-in-graph")
    settings = contents.json("tokenizer.json")
    copy = SimpleNamespace(folder=tmp_path, json=lambda part: json.loads((tmp_path / part).read_text()))
    shutil.copyfile(sealed / "int8" / "special_tokens_map.json", tmp_path / "special_tokens_map.json")
    assert word_piece(copy, settings)[name].startswith("[")  # type: ignore[arg-type]
    edit_json(tmp_path / "special_tokens_map.json", **{name: {"content": "[X]", "lstrip": False}})
    assert word_piece(copy, settings)[name] == "[X]"  # type: ignore[arg-type]
    edit_json(tmp_path / "special_tokens_map.json", **{name: None})
    with pytest.raises(ArtifactError) as caught:
        word_piece(copy, settings)  # type: ignore[arg-type]
    missing = f"no {name}; tokenizer-in-graph takes a tokenizer of BERT's special tokens"
    assert str(caught.value) == f"{tmp_path / 'special_tokens_map.json'}: {missing}"
