"""Each kind of folder is known for what it is, and opens as what it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import sentences
from graphs import draft

from benchmarks.systems import System
from compressor.artifact.folder import write_json
from compressor.core.encoder import Encoder
from compressor.core.errors import ModelError, ProviderError
from compressor.models.sentence_model import TorchEncoder, open_model
from compressor.models.torch_int8 import TorchInt8, TorchInt8Encoder
from exporters.loading import kind_of
from exporters.runtime.providers import CUDA
from exporters.session import OnnxEncoder

TEXTS = sentences(20)


@pytest.fixture(scope="module")
def int8(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = draft(tmp_path_factory.mktemp("int8") / "model")
    TorchInt8().run(tiny, made)
    return made.folder


def test_a_folder_is_known_by_what_it_holds(
    tiny: Path, int8: Path, artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    assert kind_of(tiny) == "torch"
    assert kind_of(int8) == "torch-int8"
    assert [kind_of(artifacts() / stage) for stage in ("plain", "fp32", "int8")] == ["onnx"] * 3
    with pytest.raises(ModelError) as caught:
        kind_of(tmp_path)
    assert str(caught.value) == f"{tmp_path}: no onnx/model.onnx, no modules.json: nothing that can be run"


def test_a_hub_folder_with_every_form_is_the_pytorch_model(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "hub"))
    alone = System("a", "", "torch", str(folder)).size_bytes
    for name in ("onnx/model.onnx", "openvino/model.json", "pytorch_model.bin", "tf_model.h5", "README.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" * 1000)
    assert kind_of(folder) == "torch"
    assert System("a", "", "torch", str(folder)).size_bytes == alone
    assert alone == sum(p.stat().st_size for p in tiny.rglob("*") if p.is_file())


def test_every_kind_opens_as_an_encoder_of_the_same_vectors(
    tiny: Path, int8: Path, artifacts: Callable[..., Path]
) -> None:
    expected = open_model(tiny).encode(TEXTS)
    kinds = [
        (System("a", "", "torch", str(tiny), "PyTorch CPU"), TorchEncoder, 1e-6),
        (System("b", "", "torch-int8", str(int8), "PyTorch CPU"), TorchInt8Encoder, 0.2),
        (System("c", "", "onnx", str(artifacts() / "fp32")), OnnxEncoder, 1e-5),
        (System("d", "", "onnx", str(artifacts() / "int8")), OnnxEncoder, 0.2),
    ]
    for system, kind, tolerance in kinds:
        encoder = system.open()
        assert isinstance(encoder, kind)
        assert isinstance(encoder, Encoder)
        assert (encoder.dim, encoder.max_length) == (32, 64)
        assert np.abs(encoder.encode(TEXTS, 8) - expected).max() < tolerance, system.name


def test_a_system_survives_the_way_to_another_process(tiny: Path) -> None:
    system = System("a", "label", "torch", str(tiny), "PyTorch CPU", threads=2, max_length=16)
    assert System(**json.loads(system.as_json())) == system
    assert system.open().max_length == 16


def test_threads_are_those_asked_for(tiny: Path, artifacts: Callable[..., Path]) -> None:
    before = torch.get_num_threads()
    try:
        System("a", "", "torch", str(tiny), "PyTorch CPU", threads=3).open()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    encoder = System("c", "", "onnx", str(artifacts() / "fp32"), threads=3).open()
    assert isinstance(encoder, OnnxEncoder)
    assert encoder.threads == 3


def test_size_is_of_the_files_and_leaves_the_manifest_out(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"x" * 1000)
    (tmp_path / "config.json").write_bytes(b"y" * 24)
    write_json(tmp_path / "manifest.json", {"a": 1})
    assert System("a", "", "onnx", str(tmp_path)).size_bytes == 1024


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_not_there_is_refused(tiny: Path, artifacts: Callable[..., Path]) -> None:
    with pytest.raises(ProviderError, match=r"^device cuda: PyTorch sees no CUDA device; install a CUDA build"):
        System("a", "", "torch", str(tiny), "PyTorch CUDA").open()
    with pytest.raises(ProviderError, match=r"^CUDAExecutionProvider: "):
        System("c", "", "onnx", str(artifacts() / "fp32"), CUDA).open()
