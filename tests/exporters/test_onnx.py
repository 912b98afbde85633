"""The exported graph gives PyTorch's vectors, in the form that its consumers read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import sentences
from graphs import batch, build_family, by_torch, draft
from onnx import TensorProto

from compressor.artifact.folder import sha256
from compressor.artifact.layout import GRAPH
from compressor.core.encoder import Vectors
from compressor.core.errors import ModelError, RecipeError
from compressor.models.sentence_model import open_model
from exporters.graph.export import Export
from exporters.session import OnnxEncoder

BATCHES = (1, 2, 7, 64)
POOLINGS = ("mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")
TAILS: list[dict[str, Any]] = [{"normalize": False}, {"dense": 16}]
MIXED = [*sentences(30), "", "cat", "the cat sleeps " * 40]


def exported(model: Path, folder: Path) -> OnnxEncoder:
    Export().run(model, draft(folder))
    return OnnxEncoder(folder, threads=1)


def worst_over_ids(encoder: OnnxEncoder, model: Path, lengths: Sequence[int], types: bool = True) -> float:
    """Return the largest difference from PyTorch over all batch sizes, padding left in."""
    torch_model, random = open_model(model), np.random.default_rng(0)
    worst = 0.0
    for rows in BATCHES:
        for length in lengths:
            ids, mask = batch(random, rows, length, vocabulary=90)
            difference = encoder.run_ids(ids, mask) - by_torch(torch_model, ids, mask, types)
            worst = float(np.maximum(worst, np.abs(difference).max()))
    return worst


def worst_over_texts(encoder: OnnxEncoder, model: Path, texts: Sequence[str] = MIXED) -> float:
    """Return the largest difference from sentence-transformers' own encode over all batch sizes."""
    expected: Vectors = open_model(model).encode(list(texts), batch_size=5)
    return max(float(np.abs(encoder.encode(texts, rows) - expected).max()) for rows in BATCHES)


@pytest.mark.parametrize("tail", TAILS, ids=["bare", "dense, normalized"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_pooling_equals_pytorch(
    pooling: str, tail: dict[str, Any], make_model: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_model(pooling=pooling, layers=2, **tail)
    encoder = exported(model, tmp_path / "plain")
    assert encoder.dim == tail.get("dense", 32)
    assert worst_over_ids(encoder, model, lengths=(1, 2, 17, 64)) < 1e-5
    assert worst_over_texts(encoder, model) < 1e-5


def test_every_length_equals_pytorch(tiny: Path, artifacts: Callable[..., Path]) -> None:
    encoder = OnnxEncoder(artifacts() / "plain", threads=1)
    assert worst_over_ids(encoder, tiny, lengths=range(1, 65)) < 1e-5


def test_poolings_side_by_side(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    from sentence_transformers.sentence_transformer.modules import Pooling

    model[1] = Pooling(32, pooling_mode=("mean", "max"))
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    encoder = exported(tmp_path / "model", tmp_path / "plain")
    assert encoder.dim == 64
    assert worst_over_texts(encoder, tmp_path / "model") < 1e-5


def values(entries: Sequence[onnx.ValueInfoProto]) -> list[tuple[str, int, list[str | int]]]:
    return [
        (
            value.name,
            value.type.tensor_type.elem_type,
            [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in entries
    ]


@pytest.mark.parametrize("stage", ["plain", "fp32", "int8"])
def test_inputs_and_outputs_are_what_consumers_read(stage: str, artifacts: Callable[..., Path]) -> None:
    graph = onnx.load(artifacts(dense=16) / stage / GRAPH).graph
    free: list[str | int] = ["batch_size", "sequence_length"]
    assert values(graph.input) == [
        ("input_ids", TensorProto.INT64, free),
        ("attention_mask", TensorProto.INT64, free),
        ("token_type_ids", TensorProto.INT64, free),
    ]
    assert values(graph.output) == [
        ("last_hidden_state", TensorProto.FLOAT, [*free, 32]),
        ("sentence_embedding", TensorProto.FLOAT, ["batch_size", 16]),
    ]


def test_token_vectors_are_the_transformers(tiny: Path, artifacts: Callable[..., Path]) -> None:
    model, encoder = open_model(tiny), OnnxEncoder(artifacts() / "fp32", threads=1)
    ids, mask = batch(np.random.default_rng(1), 3, 12, 90)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    got = encoder._opened().side_by_side.run(["last_hidden_state"], feeds)[0]
    with torch.inference_mode():
        features = model[0]({name: torch.from_numpy(value) for name, value in feeds.items()})
    expected = features["token_embeddings"].numpy()
    assert np.abs(got - expected)[mask == 1].max() < 1e-5


def test_one_valid_file_without_external_data(artifacts: Callable[..., Path]) -> None:
    for stage in ("plain", "fp32", "int8"):
        path = artifacts() / stage / GRAPH
        assert [p.name for p in path.parent.iterdir()] == ["model.onnx"]
        model = onnx.load(path, load_external_data=False)
        assert not any(t.data_location == TensorProto.EXTERNAL for t in model.graph.initializer)
    onnx.checker.check_model(str(artifacts() / "plain" / GRAPH), full_check=True)


def test_the_operator_set_is_the_one_asked_for(tiny: Path, tmp_path: Path, artifacts: Callable[..., Path]) -> None:
    Export(opset=18).run(tiny, draft(tmp_path / "18"))
    stated = [
        [(entry.domain, entry.version) for entry in onnx.load(path / GRAPH).opset_import]
        for path in (artifacts() / "plain", tmp_path / "18")
    ]
    assert stated == [[("", 17)], [("", 18)]]
    assert worst_over_texts(OnnxEncoder(tmp_path / "18", threads=1), tiny) < 1e-5
    with pytest.raises(RecipeError, match=r"^options: opset = 16: input should be greater than or equal to 17$"):
        Export.read({"opset": 16})


@pytest.mark.parametrize("family", ["distilbert", "mpnet", "roberta", "t5"])
def test_families_without_token_types_have_two_inputs(family: str, artifacts: Callable[..., Path]) -> None:
    home = artifacts(family)
    encoder = OnnxEncoder(home / "plain", threads=1)
    names = [value.name for value in onnx.load(home / "plain" / GRAPH).graph.input]
    assert names == ["input_ids", "attention_mask"]
    assert worst_over_ids(encoder, home / "model", lengths=(1, 2, 17, 64), types=False) < 1e-5
    assert worst_over_texts(encoder, home / "model") < 1e-5


def test_padding_has_the_models_own_id(artifacts: Callable[..., Path]) -> None:
    encoder = OnnxEncoder(artifacts("roberta") / "fp32", threads=1)
    ids, mask = encoder.pad(encoder.tokenize(["cat", "the cat sleeps"]))
    assert ids[0].tolist() == [0, encoder.tokenize(["cat"])[0][1], 2, 1, 1]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def test_export_repeats_byte_for_byte(tiny: Path, tmp_path: Path, artifacts: Callable[..., Path]) -> None:
    Export().run(tiny, draft(tmp_path / "again"))
    first, again = (
        {p.relative_to(folder): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        for folder in (artifacts() / "plain", tmp_path / "again")
    )
    assert len(first) >= 9
    assert first == again


def test_a_model_that_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    model = build_family(tmp_path / "fnet", "fnet")
    with pytest.raises(ModelError, match=r"^fnet: cannot be traced into one ONNX graph: .") as caught:
        Export().run(model, draft(tmp_path / "plain"))
    assert "\n" not in str(caught.value)


def test_a_model_without_a_length_limit_is_refused(tmp_path: Path) -> None:
    model = build_family(tmp_path / "t5", "t5", max_length=None)
    with pytest.raises(ModelError, match=r"states no max_seq_length; set one in sentence_bert_config\.json$"):
        Export().run(model, draft(tmp_path / "plain"))
