"""What a model's settings may name: modules, activations and tokenizers from lists, no code, no file elsewhere."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compressor.core.errors import CompressorError, ModelError
from compressor.models.sentence_model import open_model
from compressor.models.source import check_folder
from compressor.untrusted.loaders import MODULES
from compressor.untrusted.settings import check_json


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(make_model(dense=16, layers=1), tmp_path / "model"))


def edit(path: Path, **changes: Any) -> None:
    said = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(said | changes), encoding="utf-8")


def modules(folder: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((folder / "modules.json").read_text())
    return listed


def line(folder: Path) -> str:
    """Return the line that a folder is refused with before any library opens it."""
    with pytest.raises(ModelError) as caught:
        check_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["models.Router", "models.Asym", "base.modules.router.Router"])
def test_a_router_runs_nothing(model: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """sentence-transformers 5.7 imports what router_config.json names from a local folder without being asked."""
    evil = f"open({str(tmp_path / 'canary')!r}, 'w')\nimport torch\nclass Evil(torch.nn.Module):\n    pass\n"
    (model / "evil.py").write_text(evil)
    listed = modules(model)
    listed.insert(1, {"idx": 1, "name": "9", "path": "9_Router", "type": f"sentence_transformers.{kind}"})
    (model / "modules.json").write_text(json.dumps(listed))
    (model / "9_Router").mkdir()
    routes = {"types": {"a": "evil.Evil"}, "structure": {"query": ["a"]}, "parameters": {}}
    (model / "9_Router" / "router_config.json").write_text(json.dumps(routes))
    monkeypatch.syspath_prepend(model)
    assert f"module 'sentence_transformers.{kind}' is none that is read" in line(model)
    with pytest.raises(ModelError):
        open_model(model)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", ["WordEmbeddings", "CLIPModel", "BoW", "LSTM", "Transformer.from_pretrained", "../x"])
def test_modules_that_are_not_listed(model: Path, kind: str) -> None:
    listed = modules(model)
    listed[1]["type"] = f"sentence_transformers.models.{kind}"
    (model / "modules.json").write_text(json.dumps(listed))
    assert f"sentence_transformers.models.{kind}" in line(model)


def test_both_spellings_open(model: Path) -> None:
    vectors = open_model(model).encode(["the cat"])
    for way in ("sentence_transformers.models.{}", "sentence_transformers.sentence_transformer.modules.{}"):
        listed = [entry | {"type": way.format(MODULES[entry["type"]])} for entry in modules(model)]
        (model / "modules.json").write_text(json.dumps(listed))
        assert (open_model(model).encode(["the cat"]) == vectors).all()


def test_what_reads_text_comes_first_and_once(model: Path) -> None:
    listed = modules(model)
    (model / "modules.json").write_text(json.dumps([*listed, listed[0] | {"idx": 9, "name": "9", "path": "9"}]))
    assert "Transformer or StaticEmbedding is first, and once" in line(model)
    (model / "modules.json").write_text(json.dumps(listed[1:]))
    assert "Transformer or StaticEmbedding is first, and once" in line(model)
    listed[2]["name"] = listed[1]["name"]
    (model / "modules.json").write_text(json.dumps(listed))
    assert "two modules of one name" in line(model)


NAMED = [
    ("2_Dense/config.json", {"activation_function": "torch.hub.list"}),
    ("2_Dense/config.json", {"activation_function": "evil.Evil"}),
    ("2_Dense/config.json", {"activation_function": "torch.nn.modules.activation"}),
    ("2_Dense/config.json", {"activation_function": ["torch.nn.Tanh"]}),
    ("config.json", {"attn_implementation": "flash_attention_2"}),
    ("config.json", {"_attn_implementation": {"": "org/kernel"}}),
    ("config.json", {"text_config": {"_attn_implementation": "org/kernel:function"}}),
    ("config.json", {"text_config": {"quantization_config": {"quant_method": "evil"}}}),
    ("config.json", {"use_kernels": True}),
    ("config.json", {"configuration_files": ["config.4.0.0.json"]}),
    ("config.json", {"transformers_weights": "other.safetensors"}),
    ("config.json", {"tokenizer_class": "AutoModel"}),
    ("config.json", {"processor_class": "Evil"}),
    ("config.json", {"model_type": "detr"}),
    ("config.json", {"model_type": "timm_wrapper"}),
    ("tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}),
    ("tokenizer_config.json", {"tokenizer_class": "RagTokenizer"}),
    ("tokenizer_config.json", {"tokenizer_class": ["BertTokenizer"]}),
    ("tokenizer_config.json", {"processor_class": "CLIPProcessor"}),
    ("tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.0.json"]}),
    ("tokenizer_config.json", {"tokenizer_file": "/tmp/other.json"}),
    ("tokenizer_config.json", {"vocab_file": "../vocab.txt"}),
    ("tokenizer_config.json", {"sp_model_kwargs": {"model_file": "/tmp/other"}}),
    ("tokenizer_config.json", {"init_inputs": ["/tmp/vocab.txt"]}),
    ("special_tokens_map.json", {"tokenizer_file": "/tmp/other.json"}),
    ("sentence_bert_config.json", {"model_args": {"use_safetensors": False}}),
    ("sentence_bert_config.json", {"model_kwargs": {"use_kernels": True}}),
    ("sentence_bert_config.json", {"model_kwargs": {"attn_implementation": "org/kernel"}}),
    ("sentence_bert_config.json", {"processor_kwargs": {"tokenizer_file": "/tmp/other.json"}}),
    ("sentence_bert_config.json", {"config_kwargs": {"configuration_files": ["x"]}}),
    ("sentence_bert_config.json", {"tokenizer_name_or_path": "org/other"}),
    ("sentence_bert_config.json", {"transformer_task": "retrieval"}),
    ("sentence_bert_config.json", {"modality_config": {"text": {"method": "push_to_hub"}}}),
    ("sentence_roberta_config.json", {"model_args": {"gguf_file": "x"}}),
    ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}),
    ("adapter_config.json", {}),
    ("processor_config.json", {"processor_class": "Evil"}),
    ("preprocessor_config.json", {"image_processor_type": "Evil"}),
]


@pytest.mark.parametrize(("name", "changes"), NAMED, ids=[f"{name}-{next(iter(c), '')}" for name, c in NAMED])
def test_settings_that_name_what_is_not_listed(model: Path, name: str, changes: dict[str, Any]) -> None:
    edit(model / name, **changes)
    assert line(model).startswith(str(model))
    with pytest.raises(CompressorError):
        open_model(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "special_tokens_map.json"])
def test_settings_that_are_deep(model: Path, name: str) -> None:
    for depth in (900, 980, 5000):  # about as deep as Python's stack, and deeper
        (model / name).write_text('{"model_type": "bert", "a_file": ' + '{"a": ' * depth + "1" + "}" * depth + "}")
        with contextlib.suppress(ModelError):
            check_folder(model)
    assert line(model).startswith(str(model / name))


def test_settings_beside_a_transformer_in_a_folder_of_its_own(model: Path) -> None:
    """The libraries look into the root for what they miss."""
    (model / "0_Transformer").mkdir()
    for path in list(model.glob("*.json")):
        if path.name not in ("modules.json", "config_sentence_transformers.json"):
            path.rename(model / "0_Transformer" / path.name)
    (model / "model.safetensors").rename(model / "0_Transformer" / "model.safetensors")
    listed = modules(model)
    listed[0]["path"] = "0_Transformer"
    (model / "modules.json").write_text(json.dumps(listed))
    assert open_model(model).encode(["the cat"]).shape == (1, 16)
    edit(model / "config.json", tokenizer_class="Evil")
    assert line(model).startswith(f"{model / 'config.json'}: tokenizer_class = 'Evil'")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "tokenizer_config.json",
            {"special_tokens_map_file": "/root/x.json", "name_or_path": "x"},
        ),
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "sp_model_kwargs": {}}),
        ("config.json", {"_attn_implementation": "sdpa", "tokenizer_class": None, "_name_or_path": "/x/y"}),
        ("sentence_bert_config.json", {"model_args": {"trust_remote_code": True, "add_pooling_layer": True}}),
        ("config_sentence_transformers.json", {"model_type": "SentenceTransformer", "__version__": {"pytorch": "2.0"}}),
        ("2_Dense/config.json", {"activation_function": "torch.nn.Tanh"}),
        ("generation_config.json", {"pad_token_id": 0}),
    ],
)
def test_what_honest_models_say(model: Path, name: str, changes: dict[str, Any]) -> None:
    vectors = open_model(model).encode(["the cat"])
    edit(model / name, **changes)
    assert (open_model(model).encode(["the cat"]) == vectors).all()


def test_published_folders_are_held_to_the_same_lists(tmp_path: Path) -> None:
    for name, changes in NAMED:
        if name in ("adapter_config.json", "processor_config.json", "preprocessor_config.json"):
            continue
        if "model_type" in changes and name == "config.json":
            continue  # which types there are is transformers' to say, which is not imported to verify
        path = tmp_path / Path(name).name
        path.write_text(json.dumps({"in_features": 4} | changes if "Dense" in name else changes))
        with pytest.raises(ModelError):
            check_json(path)
        path.unlink()
