"""Weights that a model lacks are not made up, and what is no number is refused, wherever a model is opened."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import random_encoder
from safetensors.torch import load_file, save_file

from benchmarks.inspect import facts
from benchmarks.quality.story import what
from compressor.answering.readers.model import check_reader, open_reader, reader_of
from compressor.answering.training.augment import Masked
from compressor.artifact.folder import Draft, sha256
from compressor.core.errors import ModelError
from compressor.models.sentence_model import TorchEncoder, open_model
from compressor.models.source import find, weights_files
from compressor.models.torch_int8 import WEIGHTS as INT8
from compressor.models.torch_int8 import TorchInt8, TorchInt8Encoder
from compressor.untrusted.weights import INDEX

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(make_model(dense=16, layers=2), tmp_path / "model"))


@pytest.fixture
def reader(model: Path, tmp_path: Path) -> Path:
    reader_of(model).save_pretrained(str(tmp_path / "reader"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(model / name, tmp_path / "reader" / name)
    return tmp_path / "reader"


def rewrite(path: Path, change: Callable[[Tensors], Any]) -> None:
    """Let ``change`` edit the tensors of a file in place, or return others."""
    tensors = load_file(path)
    changed = change(tensors)
    save_file(changed if isinstance(changed, dict) else tensors, path, {"format": "pt"})


def line(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(ModelError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_layer_without_its_attention(model: Path) -> None:
    rewrite(model / "model.safetensors", lambda w: {n: t for n, t in w.items() if "layer.1.attention" not in n})
    missing = [
        f"encoder.layer.1.attention.output.{part}" for part in ("LayerNorm.bias", "LayerNorm.weight", "dense.bias")
    ]
    assert line(open_model, model) == f"{model}: weights are missing: {', '.join(missing)} and 7 more"


def test_renamed_weights(model: Path) -> None:
    rewrite(model / "model.safetensors", lambda w: {n.replace("query", "asks"): t for n, t in w.items()})
    assert "weights are missing: encoder.layer.0.attention.self.query.bias" in line(open_model, model)


def test_a_pooler_is_not_missed_and_a_head_is_not_asked_for(model: Path) -> None:
    vectors = open_model(model).encode(["the cat"])
    rewrite(model / "model.safetensors", lambda w: {n: t for n, t in w.items() if "pooler" not in n})
    assert np.array_equal(open_model(model).encode(["the cat"]), vectors)
    head = {"cls.predictions.bias": torch.zeros(4), "bert.embeddings.position_ids": torch.arange(64)[None]}
    rewrite(model / "model.safetensors", lambda w: {f"bert.{n}": t for n, t in w.items()} | head)
    assert np.array_equal(open_model(model).encode(["the cat"]), vectors)


@pytest.mark.parametrize("left", ["shared.weight", "encoder.embed_tokens.weight"])
def test_tied_weights_are_one(tmp_path: Path, make_model: Callable[..., Path], left: str) -> None:
    tokenizer = open_model(make_model()).tokenizer
    random_encoder("T5", tokenizer, tmp_path / "raw").save_pretrained(str(tmp_path / "t5"), create_model_card=False)
    vectors = open_model(tmp_path / "t5").encode(["the cat"])
    names = {"shared.weight", "encoder.embed_tokens.weight"}

    def only(tensors: Tensors) -> Tensors:
        table = next(tensors[name] for name in names if name in tensors)
        return {n: t for n, t in tensors.items() if n not in names} | {left: table}

    rewrite(tmp_path / "t5" / "model.safetensors", only)
    assert np.array_equal(open_model(tmp_path / "t5").encode(["the cat"]), vectors)
    rewrite(tmp_path / "t5" / "model.safetensors", lambda w: {n: t for n, t in w.items() if n != left})
    assert "weights are missing" in line(open_model, tmp_path / "t5")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(model: Path, dtype: torch.dtype, value: float) -> None:
    rewrite(model / "model.safetensors", lambda w: {n: t.to(dtype) for n, t in w.items()})
    assert np.isfinite(TorchEncoder.load(model).encode(["the cat"])).all()
    name = "encoder.layer.1.attention.self.query.weight"
    rewrite(model / "model.safetensors", lambda w: w[name][0].fill_(value) is None)
    assert line(open_model, model) == f"{model}: weights of {name} hold NaN or infinite numbers"


def test_a_double_that_no_float_holds(model: Path) -> None:
    name = "encoder.layer.0.output.dense.bias"
    rewrite(model / "model.safetensors", lambda w: w | {name: torch.full_like(w[name], 1e300, dtype=torch.float64)})
    assert line(open_model, model) == f"{model}: weights of {name} hold NaN or infinite numbers"


def test_other_modules(model: Path) -> None:
    path = model / "2_Dense" / "model.safetensors"
    whole = load_file(path)
    rewrite(path, lambda w: w["linear.bias"].fill_(float("nan")) is None)
    assert line(open_model, model) == f"{model / '2_Dense'}: weights of linear.bias hold NaN or infinite numbers"
    save_file({"linear.weight": whole["linear.weight"]}, path)
    assert "linear.bias" in line(open_model, model)
    save_file(whole | {"linear.weight": torch.zeros(3, 32)}, path)
    assert "linear.weight" in line(open_model, model)


def test_shapes_that_do_not_fit(model: Path) -> None:
    name = "encoder.layer.0.attention.self.key.weight"
    rewrite(model / "model.safetensors", lambda w: w | {name: torch.zeros(8, 32)})
    message = line(open_model, model)
    assert message.startswith(f"{model}: weights of {name} are ")
    assert message.endswith("not of the shape [32, 32] that config.json says")


def test_a_static_model_without_its_table(model: Path) -> None:
    kept = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.StaticEmbedding"}
    (model / "modules.json").write_text(json.dumps([kept]))
    assert line(open_model, model) == f"{model}: weights are missing: embedding.weight or embeddings"


def test_readers(model: Path, reader: Path) -> None:
    assert line(check_reader, model).startswith(f"{model}: no weights of a question-answering head")
    open_reader(reader)
    whole = load_file(reader / "model.safetensors")
    save_file(
        {n: t for n, t in whole.items() if n != "qa_outputs.bias"}, reader / "model.safetensors", {"format": "pt"}
    )
    assert line(open_reader, reader) == f"{reader}: weights are missing: qa_outputs.bias"
    save_file({n: t for n, t in whole.items() if "key" not in n}, reader / "model.safetensors", {"format": "pt"})
    assert "weights are missing: bert.encoder.layer.0.attention.self.key.bias" in line(open_reader, reader)
    save_file(whole | {"qa_outputs.bias": torch.full((2,), torch.nan)}, reader / "model.safetensors", {"format": "pt"})
    assert line(open_reader, reader) == f"{reader}: weights of qa_outputs.bias hold NaN or infinite numbers"


def test_an_encoder_becomes_a_reader_only_whole(model: Path) -> None:
    reader_of(model)
    rewrite(model / "model.safetensors", lambda w: {n: t for n, t in w.items() if "value" not in n})
    assert "weights are missing: bert.encoder.layer.0.attention.self.value.bias" in line(reader_of, model)


def test_masked_models(model: Path, tmp_path: Path, reader: Path) -> None:
    assert "weights are missing: cls.predictions" in line(Masked.load, reader)
    settings = json.loads((reader / "tokenizer_config.json").read_text())
    (reader / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "Evil"}))
    assert "tokenizer_class = 'Evil'" in line(Masked.load, reader)


def test_pytorch_int8(model: Path, tmp_path: Path) -> None:
    draft = Draft(tmp_path / "int8")
    draft.folder.mkdir()
    TorchInt8().run(model, draft)
    TorchInt8Encoder.load(draft.folder)
    rewrite(draft.folder / INT8, lambda w: w["encoder.layer.0.output.dense.scale"].fill_(float("nan")) is None)
    assert "weights of encoder.layer.0.output.dense.scale hold NaN" in line(TorchInt8Encoder.load, draft.folder)
    dense = draft.folder / "2_Dense" / "config.json"
    dense.write_text(json.dumps(json.loads(dense.read_text()) | {"activation_function": "torch.hub.list"}))
    assert "activation_function = 'torch.hub.list'" in line(TorchInt8Encoder.load, draft.folder)


def shard(folder: Path, parts: int = 2) -> dict[str, str]:
    """Split a folder's weights into shards; return the name of each tensor's file."""
    whole = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    place = {name: f"model-{i % parts + 1:05}-of-{parts:05}.safetensors" for i, name in enumerate(sorted(whole))}
    for file in set(place.values()):
        save_file({n: t for n, t in whole.items() if place[n] == file}, folder / file, {"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": place}))
    return place


def test_shards(model: Path, tmp_path: Path, reader: Path) -> None:
    single, vectors = find(str(model)), open_model(model).encode(["the cat"])
    place = shard(model)
    found = find(str(model))
    assert [path.name for path in weights_files(model)] == sorted(set(place.values()))
    assert np.array_equal(open_model(model).encode(["the cat"]), vectors)
    assert len({single.weights_sha256, found.weights_sha256, *map(sha256, weights_files(model))}) == 4
    assert find(str(model)) == found != single
    shard(reader)
    assert isinstance(check_reader(reader), dict)
    open_reader(reader)
    rewrite(model / "model-00002-of-00002.safetensors", lambda w: w | {n: t * 2 for n, t in w.items()})
    assert find(str(model)).weights_sha256 != found.weights_sha256
    assert find(str(model)).key != found.key


def test_faults_in_a_shard(model: Path) -> None:
    place = shard(model)
    name = next(name for name in place if name.endswith("layer.1.attention.self.query.weight"))
    rewrite(model / place[name], lambda w: w[name][0].fill_(float("nan")) is None)
    assert line(open_model, model) == f"{model}: weights of {name} hold NaN or infinite numbers"
    rewrite(model / place[name], lambda w: {n: t for n, t in w.items() if n != name})
    rest = {n: file for n, file in place.items() if n != name}
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": rest}))
    assert line(open_model, model) == f"{model}: weights are missing: {name}"
    (model / INDEX).write_text(json.dumps({"weight_map": rest}))
    assert line(open_model, model) == f"{model / INDEX}: no metadata, which transformers reads of it"


def test_the_stored_precision_is_that_of_most_numbers(model: Path) -> None:
    assert find(str(model)).stored == "fp32"
    for dtype, stored in ((torch.float16, "fp16"), (torch.bfloat16, "bf16")):
        rewrite(model / "model.safetensors", lambda w: {n: t.to(dtype) if t.ndim > 1 else t for n, t in w.items()})  # noqa: B023
        source = find(str(model))
        assert source.stored == stored
        assert what("teacher", source) == f"{model}, from folder; weights in {stored}, opened as fp32"
        assert facts(model)["weights"] == stored
        assert {value.dtype for value in open_model(model).parameters()} == {torch.float32}
        place = shard(model)
        assert find(str(model)).stored == stored
        joined = {n: t for file in set(place.values()) for n, t in load_file(model / file).items()}
        save_file(joined, model / "model.safetensors", {"format": "pt"})
        (model / INDEX).unlink()


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/x.safetensors", "pytorch_model.bin", "a/b.safetensors", "x", 3, None]
)
def test_shards_elsewhere(model: Path, name: Any) -> None:
    place: dict[str, Any] = dict(shard(model))
    place[next(iter(place))] = name
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place}))
    assert (
        line(open_model, model) == f"{model / INDEX}: shard {name!a}: must be the name of a safetensors file beside it"
    )


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": {}}}']
)
def test_an_index_that_cannot_be_read(model: Path, content: str) -> None:
    shard(model)
    (model / INDEX).write_text(content)
    assert line(open_model, model).startswith(f"{model / INDEX}: ")


def test_shards_and_index_that_differ(model: Path) -> None:
    place = shard(model)
    first, second = sorted(set(place.values()))
    name = next(n for n in place if place[n] == first)
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place | {name: second}}))
    assert line(open_model, model) == f"{model / INDEX}: tensor {name!a} is not where it says"
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place | {"more": second}}))
    assert line(open_model, model) == f"{model / INDEX}: tensor 'more' is not where it says"
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place}))
    copied = load_file(model / first)[name]
    rewrite(model / second, lambda w: w | {name: copied})
    assert line(open_model, model) == f"{model / second}: tensor {name!a} is in {first}, too"
    (model / second).unlink()
    assert line(open_model, model) == f"{model / second}: no such file; {INDEX} names it"
