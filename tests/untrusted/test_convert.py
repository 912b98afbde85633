"""Pickled weights become safetensors in a process apart, tensor for tensor, and nothing in them is run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import Command
from safetensors.torch import load_file

from compressor.core.errors import ModelError
from compressor.models.sentence_model import open_model
from compressor.models.source import check_folder
from compressor.untrusted.pickles.convert import convert
from compressor.untrusted.weights import INDEX, PICKLED, PICKLED_INDEX

TEXTS = ["the cat sees", "a dog"]


@pytest.fixture
def model(make_model: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a model whose transformer and Dense are pickled."""
    folder = Path(shutil.copytree(make_model(dense=16, layers=2), tmp_path / "model"))
    for part in (folder, folder / "2_Dense"):
        pickle(part, load_file(part / "model.safetensors"))
        (part / "model.safetensors").unlink()
    return folder


def pickle(folder: Path, state: Any) -> None:
    torch.save(state, folder / PICKLED)


def fault(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(ModelError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Harmful:
    """Touches a file where it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.canary),)


def test_a_model_keeps_its_vectors(
    model: Path, make_model: Callable[..., Path], tmp_path: Path, command: Command
) -> None:
    line = f"weights are pickled (pytorch_model.bin); only safetensors is read, which compressor convert {model} --out"
    assert line in fault(check_folder, model)
    (model / "other.py").write_text("raise SystemExit")
    assert command("convert", model, "--out", tmp_path / "made")[0] == 0
    expected = open_model(make_model(dense=16, layers=2)).encode(TEXTS)
    assert np.array_equal(open_model(tmp_path / "made").encode(TEXTS), expected)
    kept = {path.name for path in (tmp_path / "made").rglob("*")}
    assert not kept & {PICKLED, "other.py"}
    assert command("convert", model, "--out", tmp_path / "made")[0] == 0  # an earlier one is replaced


def test_a_module_alone_that_is_pickled(model: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    shutil.copyfile(make_model(dense=16, layers=2) / "model.safetensors", model / "model.safetensors")
    assert f"{model / '2_Dense'}: weights are pickled" in fault(check_folder, model)
    assert f"compressor convert {model} --out" in fault(check_folder, model)
    assert convert(model, tmp_path / "made") == ["2_Dense/model.safetensors"]
    assert np.array_equal(
        open_model(tmp_path / "made").encode(TEXTS), open_model(make_model(dense=16, layers=2)).encode(TEXTS)
    )


def test_shards(model: Path, make_model: Callable[..., Path], tmp_path: Path) -> None:
    whole = load_file(make_model(dense=16, layers=2) / "model.safetensors")
    (model / PICKLED).unlink()
    place = {name: f"pytorch_model-0000{i % 2 + 1}-of-00002.bin" for i, name in enumerate(sorted(whole))}
    for file in set(place.values()):
        torch.save({n: t for n, t in whole.items() if place[n] == file}, model / file)
    (model / PICKLED_INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place}))
    assert "weights are pickled (pytorch_model.bin.index.json)" in fault(check_folder, model)
    made = convert(model, tmp_path / "made")
    assert made[:2] == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert (tmp_path / "made" / INDEX).is_file()
    expected = open_model(make_model(dense=16, layers=2)).encode(TEXTS)
    assert np.array_equal(open_model(tmp_path / "made").encode(TEXTS), expected)
    (model / PICKLED_INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(place, "../pytorch_model.bin")}))
    assert "must be the name of a pytorch_model*.bin beside it" in fault(convert, model, tmp_path / "other")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_are_kept_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    table = torch.randn(6, 4).to(dtype)
    state = {"a": table, "tied": table, "part": table[1:3], "turned": table.T, "count": torch.tensor(3)}
    (tmp_path / "model").mkdir()
    pickle(tmp_path / "model", state)
    assert convert(tmp_path / "model", tmp_path / "made") == ["model.safetensors"]
    made = load_file(tmp_path / "made" / "model.safetensors")
    assert made.keys() == state.keys()
    assert all(torch.equal(made[name], value) and made[name].dtype == value.dtype for name, value in state.items())


def test_code_is_not_run(model: Path, tmp_path: Path) -> None:
    pickle(model, {"a": torch.zeros(2), "b": Harmful(tmp_path / "canary")})
    message = f"{model / PICKLED}: asks for more than tensors, which may be code; nothing of it was run"
    assert fault(convert, model, tmp_path / "made") == message
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([torch.zeros(2)], "no table of tensors by name"),
        ({}, "no table of tensors by name"),
        ({"a": {"b": torch.zeros(2)}}, "'a': dict; only dense tensors are weights"),
        ({"a": torch.zeros(3).to_sparse()}, "'a': Tensor; only dense tensors are weights"),
        ({"a": torch.zeros(1).expand(1 << 20, 1 << 10)}, "asks for more memory than its size allows"),
    ],
)
def test_what_is_no_table_of_weights(model: Path, tmp_path: Path, state: Any, message: str) -> None:
    pickle(model, state)
    assert fault(convert, model, tmp_path / "made") == f"{model / PICKLED}: {message}"


def test_files_that_are_no_pickle(model: Path, tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04" + bytes(100), b"\x80\x04N."):
        (model / PICKLED).write_bytes(content)
        assert fault(convert, model, tmp_path / "made").startswith(f"{model / PICKLED}: ")


def test_nothing_to_convert(tiny: Path, tmp_path: Path) -> None:
    assert fault(convert, tiny, tmp_path / "made") == f"{tiny}: no pytorch_model.bin to convert"
