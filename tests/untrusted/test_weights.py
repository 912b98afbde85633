"""A safetensors file is judged by its header and its size, before anything is loaded from it."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from compressor.core.errors import ModelError
from compressor.untrusted.weights import layers_in, read_header


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    tensors = {"encoder.layer.0.weight": np.zeros((3, 4), np.float32), "bias": np.ones(5, np.float16)}
    save_file(tensors, path, metadata={"format": "pt"})
    return path


def write(path: Path, header: Any, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text)
    return path


def fault(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        read_header(path)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


def test_names_types_and_shapes_are_read(whole: Path) -> None:
    header = read_header(whole)
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items()} == {
        "encoder.layer.0.weight": ("F32", [3, 4]),
        "bias": ("F16", [5]),
    }


def test_a_real_models_header(tiny: Path) -> None:
    header = read_header(tiny / "model.safetensors")
    assert header["encoder.layer.3.output.dense.weight"]["shape"] == [32, 64]
    assert layers_in(header) == 4


@pytest.mark.parametrize("cut", [1, 20, 58])
def test_a_truncated_file(whole: Path, cut: int) -> None:
    size = whole.stat().st_size
    whole.write_bytes(whole.read_bytes()[:-cut])
    assert fault(whole) == f"truncated: {size - cut} bytes, its header says {size}"


def test_a_file_cut_within_its_header(whole: Path) -> None:
    (length,) = struct.unpack("<Q", whole.read_bytes()[:8])
    whole.write_bytes(whole.read_bytes()[:40])
    assert fault(whole) == f"truncated or not safetensors (header of {length} bytes)"
    whole.write_bytes(whole.read_bytes()[:5])
    assert fault(whole) == "not a safetensors file"
    whole.write_bytes(b"")
    assert fault(whole) == "not a safetensors file"


def test_a_file_with_more_than_its_tensors(whole: Path) -> None:
    size = whole.stat().st_size
    whole.write_bytes(whole.read_bytes() + b"\0\0")
    assert fault(whole) == f"too long: {size + 2} bytes, its header says {size}"


def test_a_header_that_would_fill_the_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "huge", b"{}", length=2**63)
    assert fault(path) == f"truncated or not safetensors (header of {2**63} bytes)"
    with path.open("r+b") as file:  # sparse: its size allows the header, the format does not
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(200_000_000)
    assert fault(path) == "truncated or not safetensors (header of 100000001 bytes)"


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"\xff\xfe{}",
        [],
        {"a": 1},
        {"a": {"dtype": "F32"}},
        {"a": {"data_offsets": []}},
        {"a": {"data_offsets": [0, "many"]}},
        {"a": {"data_offsets": [0, None]}},
    ],
)
def test_garbage(tmp_path: Path, header: Any) -> None:
    assert fault(write(tmp_path / "garbage", header)) == "not a safetensors file"


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(500))
    assert re.fullmatch(r"truncated or not safetensors \(header of \d+ bytes\)", fault(tmp_path / "pytorch_model.bin"))
    assert fault(tmp_path / "none") == "no such file; weights must be safetensors"
    assert fault(tmp_path) == "not a safetensors file"


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (["encoder.layer.{}.attention.self.query.weight", "encoder.layer.{}.output.dense.bias"], 3),  # BERT, RoBERTa
        (["bert.encoder.layer.{}.output.dense.weight"], 3),  # with a prefix
        (["transformer.layer.{}.attention.q_lin.weight"], 3),  # DistilBERT
        (["encoder.layer.{}.attention.attn.q.weight"], 3),  # MPNet
        (["layers.{}.attn.Wqkv.weight"], 3),  # ModernBERT
        (["h.{}.attn.c_attn.weight"], 3),  # GPT-2
        (["encoder.block.{}.layer.0.SelfAttention.q.weight", "encoder.block.{}.layer.1.DenseReluDense.wi.weight"], 3),
        (["encoder.albert_layer_groups.0.albert_layers.0.ffn.weight"], 0),  # ALBERT: one layer, used again and again
        (["embeddings.word_embeddings.weight", "pooler.dense.{}"], 0),
    ],
)
def test_layers_are_counted_by_name(names: list[str], layers: int) -> None:
    held = {name.format(i): {} for name in names for i in range(3)}
    assert layers_in(held | {"embeddings.LayerNorm.weight": {}, "pooler.dense.weight": {}}) == layers


def test_layers_are_counted_not_numbered() -> None:
    assert layers_in({f"encoder.layer.{i}.weight": {} for i in (0, 2, 11)}) == 3
