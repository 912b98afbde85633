"""PyTorch int8: weights in int8 with a scale a channel, stored without pickle, loaded to the same vectors."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import WORDS, sentences
from safetensors.torch import load_file, save_file

from compressor.artifact.folder import Artifact, Draft, writing
from compressor.artifact.prompts import Prompts
from compressor.core.encoder import Encoder, Vectors
from compressor.core.errors import ModelError, TextError
from compressor.models.agreement import cosines
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.models.source import Source
from compressor.models.torch_int8 import SETTINGS, WEIGHTS, TorchInt8, TorchInt8Encoder, flatten, quantize
from compressor.vectors.pca import fit, fold

TEXTS = sentences(60)
LINEAR = 4 * 6 + 1  # six in each of four layers, and the pooler's


def convert(model: Path, to: Path) -> Path:
    to.mkdir()
    TorchInt8().run(model, Draft(to))
    return to


@pytest.fixture(scope="module")
def int8(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(tiny, tmp_path_factory.mktemp("int8") / "tiny")


@pytest.fixture
def copy(int8: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(int8, tmp_path / "copy"))


def in_memory(model: Path) -> Callable[[list[str]], Vectors]:
    """Return PyTorch's own dynamic int8 model of ``model``, as it is before it is stored."""
    source = open_model(model)
    inside = next(name for name, module in source[0].named_children() if module is transformer_of(source))
    setattr(source[0], inside, quantize(transformer_of(source)))
    return lambda texts: np.concatenate([TorchEncoder(source).encode([text]) for text in texts])


def sqnr_db(exact: Vectors, quantized: Vectors) -> float:
    """Return the signal to quantization noise ratio in decibels."""
    return float(10 * np.log10((exact**2).sum() / ((exact - quantized) ** 2).sum()))


def fault(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        TorchInt8Encoder.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "cls"}, {"pooling": "max", "normalize": False}, {"pooling": "lasttoken"}, {"dense": 16}],
)
def test_loaded_it_gives_the_vectors_of_the_model_in_memory(
    make_model: Callable[..., Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    model = make_model(**options)
    loaded = TorchInt8Encoder.load(convert(model, tmp_path / "int8"))
    vectors = np.concatenate([loaded.encode([text]) for text in TEXTS])
    np.testing.assert_array_equal(vectors, in_memory(model)(TEXTS))
    assert np.abs(vectors - TorchEncoder.load(model).encode(TEXTS)).max() > 1e-4  # int8 there is
    assert vectors.shape == (60, options.get("dense", 32))


def test_close_to_fp32(tiny: Path, int8: Path) -> None:
    exact, quantized = TorchEncoder.load(tiny).encode(TEXTS), TorchInt8Encoder.load(int8).encode(TEXTS)
    assert 25 < sqnr_db(exact, quantized) < 60
    assert cosines(exact, quantized).min() > 0.99


def test_close_to_fp32_on_the_real_teacher(minilm: Source, tmp_path: Path) -> None:
    folder = convert(minilm.folder, tmp_path / "int8")
    exact, quantized = TorchEncoder.load(minilm.folder).encode(TEXTS), TorchInt8Encoder.load(folder).encode(TEXTS)
    assert sqnr_db(exact, quantized) > 10
    assert cosines(exact, quantized).mean() > 0.95
    assert (folder / WEIGHTS).stat().st_size < 60e6 < 90e6 < (minilm.folder / "model.safetensors").stat().st_size


def test_files_are_text_or_safetensors(int8: Path) -> None:
    files = {path.relative_to(int8).as_posix() for path in int8.rglob("*") if path.is_file()}
    assert {Path(name).suffix for name in files} <= {".json", ".txt", ".safetensors"}
    assert {WEIGHTS, SETTINGS, "config.json", "modules.json", "tokenizer.json", "1_Pooling/config.json"} <= files
    assert "model.safetensors" not in files


def test_other_files_of_the_model_stay_behind(tiny: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    for name in ("pytorch_model.bin", "training_args.pt", "onnx/model.onnx", "onnx/config.json", ".git/config.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (model / "manifest.json").write_text("{}")
    with writing(tmp_path / "int8", "quantize", "key") as draft:
        TorchInt8().run(model, draft)
    files = {path.relative_to(tmp_path / "int8").as_posix() for path in (tmp_path / "int8").rglob("*")}
    assert not files & {"pytorch_model.bin", "training_args.pt", "onnx", ".git"}
    assert Artifact.open(tmp_path / "int8").manifest["stage"] == "quantize"


def test_weights_are_int8_with_a_scale_a_channel(tiny: Path, int8: Path) -> None:
    stored, exact = load_file(int8 / WEIGHTS), load_file(tiny / "model.safetensors")
    layers = [name.removesuffix(".int8") for name in stored if name.endswith(".int8")]
    assert len(layers) == LINEAR
    for name in layers:
        values, scales, weight = stored[f"{name}.int8"], stored[f"{name}.scale"], exact[f"{name}.weight"]
        assert (values.dtype, scales.dtype) == (torch.int8, torch.float32)
        assert (values.shape, scales.shape) == (weight.shape, weight.shape[:1])
        assert len(scales.unique()) > 0.9 * len(scales)
        assert torch.allclose(scales, weight.abs().amax(dim=1) / 127.5, rtol=1e-3)
        assert (values.float() * scales[:, None] - weight).abs().amax(dim=1).le(scales * 0.51).all()
        assert f"{name}.weight" not in stored
        assert stored[f"{name}.bias"].equal(exact[f"{name}.bias"])
    assert stored["embeddings.word_embeddings.weight"].equal(exact["embeddings.word_embeddings.weight"])


def test_the_source_model_stays_in_float(tiny: Path) -> None:
    transformer = transformer_of(open_model(tiny))
    tensors = flatten(quantize(transformer))
    assert sum(name.endswith(".int8") for name in tensors) == LINEAR
    assert {value.dtype for value in transformer.state_dict().values()} == {torch.float32}
    assert not [name for name in flatten(transformer) if name.endswith(".int8")]


def test_it_is_an_encoder(tiny: Path, int8: Path) -> None:
    encoder = TorchInt8Encoder.load(int8)
    assert isinstance(encoder, Encoder)
    assert (encoder.dim, encoder.max_length) == (32, 64)
    assert json.loads((int8 / SETTINGS).read_text()) == {"dim": 32, "max_length": 64, "prompt": ""}
    assert encoder.encode([]).shape == (0, 32)
    assert encoder.encode([]).dtype == encoder.encode(TEXTS).dtype == np.float32
    assert np.isfinite(encoder.encode([""])).all()


def test_rows_keep_the_order_of_the_texts(int8: Path) -> None:
    encoder = TorchInt8Encoder.load(int8)
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    batched = encoder.encode(TEXTS, batch_size=7)
    assert cosines(alone, batched).min() > 0.99  # one range a batch: near, not the same
    order = np.random.default_rng(0).permutation(60)
    assert cosines(encoder.encode([TEXTS[i] for i in order]), alone[order]).min() > 0.99


def test_texts_are_cut_at_max_length(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    model.max_seq_length = 16
    model.save_pretrained(str(tmp_path / "short"), create_model_card=False)
    encoder = TorchInt8Encoder.load(convert(tmp_path / "short", tmp_path / "int8"))
    assert encoder.max_length == 16
    words = WORDS[:20]
    long, cut, shorter = (encoder.encode([" ".join(words[:count])]) for count in (20, 14, 13))
    np.testing.assert_array_equal(long, cut)  # 14 words, [CLS] and [SEP]
    assert np.abs(long - shorter).max() > 1e-3


def test_a_text_longer_than_the_model(int8: Path) -> None:
    encoder = TorchInt8Encoder.load(int8)
    words = ["cat"] * 62
    np.testing.assert_array_equal(encoder.encode([" ".join(words * 9)]), encoder.encode([" ".join(words)]))


def test_a_reduced_model(tiny: Path, tmp_path: Path) -> None:
    projection = fit(TorchEncoder.load(tiny).encode(TEXTS), 8, center=True)
    fold(open_model(tiny), projection).save_pretrained(str(tmp_path / "pca"), create_model_card=False)
    projection.save(tmp_path / "pca")
    folder = convert(tmp_path / "pca", tmp_path / "int8")
    encoder = TorchInt8Encoder.load(folder)
    assert encoder.dim == 8
    np.testing.assert_array_equal(encoder.encode(TEXTS[:1]), in_memory(tmp_path / "pca")(TEXTS[:1]))
    assert sqnr_db(TorchEncoder.load(tmp_path / "pca").encode(TEXTS), encoder.encode(TEXTS)) > 10
    assert not (folder / "projection.safetensors").exists()


def test_a_model_saved_in_half_precision(tiny: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "half"))
    weights = load_file(model / "model.safetensors")
    save_file({name: value.half() for name, value in weights.items()}, model / "model.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    for name in ("dtype", "torch_dtype"):
        config.pop(name, None)
    (model / "config.json").write_text(json.dumps(config | {"torch_dtype": "float16", "dtype": "float16"}))
    encoder = TorchInt8Encoder.load(convert(model, tmp_path / "int8"))
    np.testing.assert_array_equal(encoder.encode(TEXTS[:1]), in_memory(model)(TEXTS[:1]))


def test_a_transformer_with_a_folder_of_its_own(tiny: Path, int8: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "old"))
    modules = json.loads((model / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json", "tokenizer.json"):
        shutil.move(model / name, model / "0_Transformer" / name)
    shutil.move(model / "tokenizer_config.json", model / "0_Transformer" / "tokenizer_config.json")
    shutil.rmtree(model / "2_Normalize", ignore_errors=True)  # empty in older folders, and lost on the way
    encoder = TorchInt8Encoder.load(convert(model, tmp_path / "int8"))
    np.testing.assert_array_equal(encoder.encode(TEXTS), TorchInt8Encoder.load(int8).encode(TEXTS))


def test_the_default_prompt_is_part_of_the_text(tiny: Path, int8: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    model.prompts, model.default_prompt_name = {"query": "the cat sleeps "}, "query"
    model.save_pretrained(str(tmp_path / "prompted"), create_model_card=False)
    encoder = TorchInt8Encoder.load(convert(tmp_path / "prompted", tmp_path / "int8"))
    np.testing.assert_array_equal(
        encoder.encode(TEXTS[:1]), TorchInt8Encoder.load(int8).encode([f"the cat sleeps {TEXTS[0]}"])
    )
    np.testing.assert_array_equal(encoder.encode(TEXTS[:1]), in_memory(tmp_path / "prompted")(TEXTS[:1]))


def test_a_prompt_that_pooling_leaves_out_is_refused(int8: Path) -> None:
    encoder = TorchInt8Encoder.load(int8)
    expected = encoder.encode(TEXTS)
    encoder.prompts = Prompts({"query": "", "document": "the cat sleeps "}, "", pooled=False)
    np.testing.assert_array_equal(encoder.encode(TEXTS), expected)
    with pytest.raises(TextError, match="^prompt = 'the cat sleeps ': the model's pooling leaves prompts out"):
        encoder.encode_document(TEXTS)
    encoder.prompts = Prompts({}, "the cat sleeps ", pooled=False)
    with pytest.raises(TextError, match="^prompt = 'the cat sleeps ': the model's pooling leaves prompts out"):
        encoder.encode(TEXTS)


def test_a_module_that_is_not_known(tiny: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny, tmp_path / "model"))
    modules = json.loads((model / "modules.json").read_text())
    modules[2] |= {"type": "sentence_transformers.models.Dropout", "path": "2_Dropout"}
    (model / "modules.json").write_text(json.dumps(modules))
    (model / "2_Dropout").mkdir()
    (model / "2_Dropout" / "config.json").write_text('{"dropout": 0.2}')
    with pytest.raises(ModelError) as caught:
        convert(model, tmp_path / "int8")
    assert str(caught.value) == f"{model}: module Dropout cannot be quantized; known: Pooling, Dense, Normalize"


def test_truncated_weights(copy: Path) -> None:
    path = copy / WEIGHTS
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    assert fault(copy) == f"{path}: truncated: {size - 100} bytes, its header says {size}"
    path.unlink()
    assert fault(copy) == f"{path}: no such file; weights must be safetensors"


@pytest.mark.parametrize(
    ("part", "missing"),
    [
        ("encoder.layer.1.output.dense.int8", "encoder.layer.1.output.dense.int8"),
        ("encoder.layer.1.output.dense.scale", "encoder.layer.1.output.dense.scale"),
        ("encoder.layer.1.output.dense.bias", "encoder.layer.1.output.dense.bias"),
        ("embeddings.LayerNorm.weight", "embeddings.LayerNorm.weight"),
    ],
)
def test_a_missing_tensor(copy: Path, part: str, missing: str) -> None:
    tensors = load_file(copy / WEIGHTS)
    tensors.pop(part)
    save_file(tensors, copy / WEIGHTS)
    assert fault(copy) == f"{copy / WEIGHTS}: no weights for {missing} (and 0 more)"


@pytest.mark.parametrize("name", ["encoder.layer.0.output.dense.scale", "embeddings.LayerNorm.bias"])
def test_a_tensor_of_another_shape(copy: Path, name: str) -> None:
    tensors = load_file(copy / WEIGHTS)
    save_file(tensors | {name: tensors[name][:1].clone()}, copy / WEIGHTS)
    assert fault(copy) == f"{copy / WEIGHTS}: {name} is [1], config.json says [32]"


def test_another_models_weights(copy: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    other = convert(make_model(layers=1), tmp_path / "other")
    shutil.copyfile(other / WEIGHTS, copy / WEIGHTS)
    assert fault(copy).startswith(f"{copy / WEIGHTS}: no weights for encoder.layer.1.attention.output.LayerNorm.bias ")


def test_folders_that_are_none(tiny: Path, copy: Path, tmp_path: Path) -> None:
    assert fault(tiny).startswith(f"{tiny}: not a PyTorch int8 folder: ")
    assert fault(tmp_path / "none").startswith(f"{tmp_path / 'none'}: not a PyTorch int8 folder: ")
    (copy / SETTINGS).write_text("{")
    assert fault(copy).startswith(f"{copy}: not a PyTorch int8 folder: ")
