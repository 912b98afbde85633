"""The folder holds what each consumer looks for, under the names that older loaders know."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import draft
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoTokenizer

from compressor.core.errors import ModelError, TextError
from compressor.models.sentence_model import open_model
from exporters.graph.export import Export
from exporters.session import OnnxEncoder

FILES = [
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "onnx/model.onnx",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def folder(artifacts: Callable[..., Path]) -> Path:
    return artifacts(dense=16) / "plain"


def test_the_folder_has_all_files(folder: Path) -> None:
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == FILES
    assert (folder / "3_Normalize").is_dir()


def test_later_stages_keep_all_files(folder: Path) -> None:
    for name in FILES:
        if name != "onnx/model.onnx":
            assert (folder.parent / "int8" / name).read_bytes() == (folder / name).read_bytes(), name


def test_modules_have_the_names_that_older_loaders_know(folder: Path) -> None:
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize")]
    assert read(folder / "modules.json") == [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("pooling", "key"),
    [
        ("mean", "pooling_mode_mean_tokens"),
        ("cls", "pooling_mode_cls_token"),
        ("max", "pooling_mode_max_tokens"),
        ("lasttoken", "pooling_mode_lasttoken"),
        ("weightedmean", "pooling_mode_weightedmean_tokens"),
        ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
    ],
)
def test_pooling_has_the_keys_that_older_loaders_parse(
    pooling: str, key: str, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    Export().run(make_model(pooling=pooling, layers=2, normalize=False), draft(tmp_path / "plain"))
    settings = read(tmp_path / "plain" / "1_Pooling" / "config.json")
    modes = {name: value for name, value in settings.items() if name.startswith("pooling_mode_")}
    assert len(modes) == 6
    assert [name for name, value in modes.items() if value] == [key]
    assert settings["word_embedding_dimension"] == 32
    assert settings["include_prompt"] is True
    assert Pooling.load(str(tmp_path / "plain" / "1_Pooling")).pooling_mode == pooling


def test_dense_loads_with_the_models_weights(folder: Path, make_model: Callable[..., Path]) -> None:
    loaded, own = Dense.load(str(folder / "2_Dense")), open_model(make_model(dense=16))[2]
    assert (loaded.linear.weight == own.linear.weight).all()
    assert (loaded.linear.bias == own.linear.bias).all()
    assert isinstance(loaded.activation_function, nn.Tanh)
    assert set(read(folder / "2_Dense" / "config.json")) == {
        "in_features",
        "out_features",
        "bias",
        "activation_function",
    }


def test_tokenizer_has_a_finite_length_and_loads(folder: Path, make_model: Callable[..., Path]) -> None:
    assert read(folder / "tokenizer_config.json")["model_max_length"] == 64
    assert read(folder / "sentence_bert_config.json") == {"max_seq_length": 64, "do_lower_case": False}
    loaded, own = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(make_model(dense=16))
    texts = ["The cat sleeps.", "unheard of", "tree " * 100]
    assert loaded(texts, truncation=True)["input_ids"] == own(texts, truncation=True, max_length=64)["input_ids"]


@pytest.mark.parametrize("left", [8, 500])
def test_no_file_states_another_length(left: int, tiny: Path, tmp_path: Path) -> None:
    """fastembed cuts at tokenizer_config's max_length, and those who read tokenizer.json alone cut where it says."""
    model = shutil.copytree(tiny, tmp_path / "model")
    settings = read(model / "tokenizer_config.json") | {"max_length": left}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    tokens = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokens.enable_truncation(left)
    tokens.save(str(model / "tokenizer.json"))
    Export().run(model, draft(tmp_path / "plain"))
    assert "max_length" not in read(tmp_path / "plain" / "tokenizer_config.json")
    alone = Tokenizer.from_file(str(tmp_path / "plain" / "tokenizer.json"))
    assert alone.truncation is not None
    assert alone.truncation["max_length"] == 64
    assert len(alone.encode("tree " * 100).ids) == 64
    assert alone.encode("tree " * 100).ids == OnnxEncoder(tmp_path / "plain").tokenize(["tree " * 100])[0]


def test_special_tokens_are_named(folder: Path) -> None:
    assert read(folder / "special_tokens_map.json") == {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }


def test_config_is_the_transformers_and_names_no_path(folder: Path) -> None:
    config = read(folder / "config.json")
    assert "_name_or_path" not in config
    assert {k: config[k] for k in ("model_type", "num_hidden_layers", "hidden_size", "vocab_size", "pad_token_id")} == {
        "model_type": "bert",
        "num_hidden_layers": 4,
        "hidden_size": 32,
        "vocab_size": 99,
        "pad_token_id": 0,
    }
    assert AutoConfig.from_pretrained(folder).num_attention_heads == 4


def test_prompts_are_kept_and_the_default_one_is_used(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    model.prompts, model.default_prompt_name = {"ask": "two dogs: "}, "ask"
    model.save_pretrained(str(tmp_path / "model"), create_model_card=False)
    Export().run(tmp_path / "model", draft(tmp_path / "plain"))
    usage = read(tmp_path / "plain" / "config_sentence_transformers.json")
    assert usage["prompts"]["ask"] == "two dogs: "
    assert usage["default_prompt_name"] == "ask"
    assert usage["similarity_fn_name"] == "cosine"
    expected = open_model(tmp_path / "model").encode(["the cat sleeps"])
    assert np.abs(OnnxEncoder(tmp_path / "plain").encode(["the cat sleeps"]) - expected).max() < 1e-5
    assert np.abs(open_model(tiny).encode(["the cat sleeps"]) - expected).max() > 1e-2


def with_modules(tiny: Path, folder: Path, *modules: nn.Module, **options: Any) -> Path:
    model = SentenceTransformer(modules=[open_model(tiny)[0], *modules], device="cpu", **options)
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def test_an_unknown_module_is_refused_by_name(tiny: Path, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Dropout

    model = with_modules(tiny, tmp_path / "model", Pooling(32), Dropout(0.1), Normalize())
    with pytest.raises(ModelError) as caught:
        Export().run(model, draft(tmp_path / "plain"))
    assert str(caught.value) == f"{model}: module Dropout cannot be exported; known: Pooling, Dense, Normalize"


@pytest.mark.parametrize("default", ["ask", None])
def test_pooling_that_leaves_prompts_out_is_refused(default: str | None, tiny: Path, tmp_path: Path) -> None:
    pooling = Pooling(32, pooling_mode="mean", include_prompt=False)
    prompts = {"prompts": {"ask": "two dogs: "}, "default_prompt_name": default}
    model = with_modules(tiny, tmp_path / "model", pooling, **prompts)
    with pytest.raises(ModelError, match=r"its pooling leaves prompts out \(ask\), which a graph of ids cannot$"):
        Export().run(model, draft(tmp_path / "plain"))


def test_without_prompts_pooling_may_leave_them_out(tiny: Path, tmp_path: Path) -> None:
    model = with_modules(tiny, tmp_path / "model", Pooling(32, include_prompt=False))
    Export().run(model, draft(tmp_path / "plain"))
    encoder = OnnxEncoder(tmp_path / "plain")
    assert np.abs(encoder.encode(["the cat"]) - open_model(model).encode(["the cat"])).max() < 1e-5
    with pytest.raises(TextError, match="^prompt = 'two dogs: ': the model's pooling leaves prompts out"):
        encoder.encode(["the cat"], prompt="two dogs: ")


def test_several_poolings_keep_their_order(tiny: Path, tmp_path: Path) -> None:
    model = with_modules(tiny, tmp_path / "model", Pooling(32, pooling_mode=("mean", "cls")))
    Export().run(model, draft(tmp_path / "plain"))
    assert Pooling.load(str(tmp_path / "plain" / "1_Pooling")).pooling_mode == ("mean", "cls")
