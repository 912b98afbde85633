"""Models from strangers: refused in one line, or read without running anything of theirs."""

import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostility
import pytest
from safetensors.torch import load_file

from compressor.core.errors import CompressorError, ModelError
from compressor.models.sentence_model import open_model
from compressor.models.source import find


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(make_model(dense=16, layers=1), tmp_path / "model"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def line(folder: Path) -> str:
    """Return the line that a model is refused with."""
    with pytest.raises(CompressorError) as caught:
        open_model(find(str(folder)).folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_the_canary_sings(canary: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.bin").write_bytes(hostility.pickled(canary))
    pickle.loads((tmp_path / "evil.bin").read_bytes())
    assert canary.exists()


@pytest.mark.parametrize("place", ["", "2_Dense"])
@pytest.mark.parametrize("disguised", [False, True])
def test_pickled_weights(model: Path, canary: Path, place: str, disguised: bool) -> None:
    weights = model / place / "model.safetensors"
    weights.unlink()
    (weights if disguised else model / place / "pytorch_model.bin").write_bytes(hostility.pickled(canary))
    assert ("safetensors" in line(model)) or disguised
    assert not canary.exists()


def test_pickles_beside_safetensors_are_not_read(model: Path, canary: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(hostility.pickled(canary))
    (model / "2_Dense" / "pytorch_model.bin").write_bytes(hostility.pickled(canary))
    assert open_model(find(str(model)).folder).encode(["the cat"]).shape == (1, 16)
    assert not canary.exists()


AUTO = {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", AUTO | {"architectures": ["Evil"]}),
        ("config.json", AUTO | {"model_type": "evil"}),
        ("config.json", {"_attn_implementation": "evil/kernel"}),
        ("config.json", {"attn_implementation": "evil/kernel"}),
        ("tokenizer_config.json", AUTO | {"tokenizer_class": "Evil"}),
    ],
)
def test_code_that_settings_name(model: Path, canary: Path, name: str, changes: dict[str, Any]) -> None:
    (model / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    edit(model / name, **changes)
    assert line(model).startswith(f"{model}")
    assert not canary.exists()


def test_code_that_is_not_needed_is_not_run(model: Path, canary: Path) -> None:
    """Models that transformers has learnt meanwhile still name the code that they came with."""
    (model / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    edit(model / "config.json", **AUTO)
    assert open_model(find(str(model)).folder).encode(["the cat"]).shape == (1, 16)
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["evil.Evil", "os.system", "evil", "sentence_transformer.Evil"])
def test_modules_of_others(model: Path, canary: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (model / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(model)
    modules = json.loads((model / "modules.json").read_text())
    modules[1]["type"] = kind
    (model / "modules.json").write_text(json.dumps(modules))
    assert line(model) == (
        f"{model / 'modules.json'}: module {kind!r} is none that is read (Transformer, StaticEmbedding, Pooling, "
        "Dense, Normalize, LayerNorm, Dropout); code is never run"
    )
    assert not canary.exists()


@pytest.mark.parametrize("path", ["../other", "/etc", "a/../../b", "a\\b", "C:x"])
def test_modules_elsewhere(model: Path, path: str) -> None:
    modules = json.loads((model / "modules.json").read_text())
    modules[2]["path"] = path
    (model / "modules.json").write_text(json.dumps(modules))
    assert line(model) == f"{model / 'modules.json'}: module path {path!r} leads out of the folder"


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**12},
        {"num_hidden_layers": -1},
        {"hidden_size": 10**12},
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"vocab_size": -5},
        {"vocab_size": 10**15},
        {"max_position_embeddings": 10**15},
        {"model_type": ["bert"]},
        {"model_type": "../../evil"},
        {"hidden_act": "__import__('os')"},
        {"layer_norm_eps": "x"},
        {"quantization_config": {"quant_method": "evil"}},
        {"is_decoder": True},
    ],
)
def test_configs_that_make_no_sense(model: Path, changes: dict[str, Any]) -> None:
    edit(model / "config.json", **changes)
    assert str(model) in line(model)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b'{"a": 1, "a": 2}', b"\xff", b"[]", b"null"])
@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer_config.json", "sentence_bert_config.json"])
def test_settings_that_cannot_be_read(model: Path, name: str, content: bytes) -> None:
    (model / name).write_bytes(content)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        find(str(model))


@pytest.mark.parametrize("length", [-1, 0, 10**30, 1.5, "64"])
def test_absurd_lengths(model: Path, length: Any) -> None:
    edit(model / "sentence_bert_config.json", max_seq_length=length)
    path = model / "sentence_bert_config.json"
    assert line(model) == f"{path}: max_seq_length = {length!r}: must be a whole number from 1 to 1048576"


@pytest.mark.parametrize("length", [-1, 0, "long", [], True])
def test_an_absurd_model_max_length(model: Path, length: Any) -> None:
    edit(model / "tokenizer_config.json", model_max_length=length)
    assert line(model).endswith(f"tokenizer_config.json: model_max_length = {length!r}: must be a number from 1")


def test_a_tokenizer_without_a_limit(model: Path) -> None:
    """sentence_bert_config.json states the length; transformers itself writes 1e30 for none."""
    before = open_model(find(str(model)).folder).encode(["the cat sleeps " * 100])
    edit(model / "tokenizer_config.json", model_max_length=10**30)
    assert (open_model(find(str(model)).folder).encode(["the cat sleeps " * 100]) == before).all()


@pytest.mark.parametrize("kind", range(4))
def test_tokenizers_that_blow_up(model: Path, kind: int) -> None:
    path = model / "tokenizer.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    if kind == 0:
        grow = {"type": "Replace", "pattern": {"String": "a"}, "content": "a a " * 50}
        said["normalizer"] = {"type": "Sequence", "normalizers": [grow] * 4}
    elif kind == 1:
        said["post_processor"]["single"] = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}] * 100_000
    elif kind == 2:
        said["added_tokens"] = "evil"
    path.write_text("[" * 100_000 if kind == 3 else json.dumps(said), encoding="utf-8")
    assert line(model).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "change",
    [
        {"data_offsets": [0, 1 << 62]},
        {"data_offsets": [-8, 0]},
        {"data_offsets": [8, 0]},
        {"data_offsets": [0.5, 8]},
        {"data_offsets": None},
        {"shape": [1 << 62, 1 << 62]},
        {"shape": [-1]},
        {"shape": "x"},
        {"dtype": "PICKLE"},
        {"dtype": ["F32"]},
    ],
)
def test_safetensors_that_lie(model: Path, change: dict[str, Any]) -> None:
    path = model / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    header[name] |= change
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    assert str(path) in line(model)


def test_tensors_that_overlap(model: Path) -> None:
    path = model / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    pairs = [name for name in header if name.endswith("LayerNorm.bias")]
    header[pairs[0]]["data_offsets"] = header[pairs[1]]["data_offsets"]
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    assert "its offsets, shape and dtype do not fit" in line(model)
    with pytest.raises(Exception, match="(?i)offset"):
        load_file(path)


def test_an_adapter(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "evil/model", "peft_type": "LORA"}')
    assert "an adapter (adapter_config.json), not a whole model" in line(model)
