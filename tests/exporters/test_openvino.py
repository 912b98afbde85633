"""OpenVINO's provider at work on real artifacts: its vectors, its nodes, its options, the gate and the benchmark."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from builders import sentences

from benchmarks.bench import Bench
from benchmarks.inspect import facts
from benchmarks.systems import System
from compressor.artifact.folder import versions, writing
from compressor.artifact.manifest import read_manifest
from compressor.core.errors import ArtifactError, ProviderError
from exporters.precision.int8 import OnnxInt8
from exporters.runtime.names import CPU, OPENVINO
from exporters.runtime.placed import nodes
from exporters.runtime.providers import open_session
from exporters.runtime.running import Running
from exporters.search.embedding import Search
from exporters.session import OnnxEncoder

pytestmark = [
    pytest.mark.packages,
    pytest.mark.skipif(
        OPENVINO not in onnxruntime.get_available_providers(),
        reason="onnxruntime-openvino is not installed; make test-openvino has it",
    ),
]
TEXTS = [*sentences(40, seed=5), "", "[PAD]", " ".join(sentences(8, seed=6))]


@pytest.fixture(scope="module")
def fp32(artifacts: Callable[..., Path]) -> Path:
    return artifacts("wide") / "fp32"


@pytest.fixture(scope="module")
def exact(fp32: Path) -> np.ndarray:
    return OnnxEncoder(fp32).encode(TEXTS)


@pytest.mark.parametrize("options", [{}, {"NUM_STREAMS": 2}, {"NUM_STREAMS": 1}, {"num_of_threads": 1}])
def test_vectors_are_those_of_the_cpu_provider(fp32: Path, exact: np.ndarray, options: dict[str, int]) -> None:
    encoder = OnnxEncoder(fp32, [(OPENVINO, options), CPU], threads=2)
    for size in (1, 7, 64):
        assert np.abs(encoder.encode(TEXTS, batch_size=size) - exact).max() < 1e-5


def test_nodes_are_counted_by_provider(fp32: Path) -> None:
    placed = OnnxEncoder(fp32, [OPENVINO, CPU]).placed
    assert placed is not None
    assert nodes(placed, OPENVINO) > 0
    assert nodes(placed) == nodes(placed, OPENVINO) + nodes(placed, CPU)
    assert set(placed) <= {OPENVINO, CPU}


def test_a_graph_that_it_takes_a_part_of_alone_is_refused_with_the_count(artifacts: Callable[..., Path]) -> None:
    int8 = artifacts("wide") / "int8"
    with pytest.raises(
        ProviderError, match=r"^OpenVINOExecutionProvider: \d+ of \d+ nodes on CPUExecutionProvider \(.*\)"
    ):
        OnnxEncoder(int8, [OPENVINO])
    allowed, alone = OnnxEncoder(int8, [OPENVINO, CPU]), OnnxEncoder(int8)
    near = (allowed.encode(TEXTS) * alone.encode(TEXTS)).sum(axis=1)
    assert near.min() > 0.99


def test_options_that_it_does_not_take_are_no_run_on_the_cpu(fp32: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ProviderError, match=rf"^{OPENVINO}: asked for with device_type=NPU, and ONNX Runtime fell back"
    ):
        OnnxEncoder(fp32, [f"{OPENVINO}:device_type=NPU", CPU])  # this machine has none
    with pytest.raises(ProviderError, match="option device_type = 'XPU': must be"):  # it takes that for CPU
        OnnxEncoder(fp32, [f"{OPENVINO}:device_type=XPU", CPU])
    assert "EP Error" not in capfd.readouterr().out


def test_a_broken_graph_is_one_line_there_too(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match=r"model\.onnx: cannot be loaded on OpenVINOExecutionProvider: "):
        open_session(tmp_path, [OPENVINO], 1)


def test_a_pickled_encoder_keeps_its_options(fp32: Path, exact: np.ndarray) -> None:
    encoder = pickle.loads(pickle.dumps(OnnxEncoder(fp32, [(OPENVINO, {"NUM_STREAMS": 2}), CPU])))
    assert encoder.providers == [f"{OPENVINO}:NUM_STREAMS=2", CPU]
    assert np.abs(encoder.encode(TEXTS) - exact).max() < 1e-5


def test_the_benchmark_states_the_provider_and_its_nodes(fp32: Path, tiny: Path) -> None:
    teacher = System("teacher", "teacher", "torch", str(tiny), "PyTorch CPU", 1)
    ours = System("own-openvino", "own, OpenVINO", "onnx", str(fp32), OPENVINO, 1)
    bench = Bench(count=64, rounds=1, queries=20, batch_sizes=(8,), lengths=(16,), threads=1)
    row = json.loads(json.dumps(bench.measure([teacher, ours], sentences(64), "texts").as_dict()))["systems"][1]
    assert row["provider"] == OPENVINO
    assert row["placed"][OPENVINO]


def test_the_search_judges_and_times_on_it(fp32: Path, tmp_path: Path) -> None:
    quick: dict[str, Any] = {"count": 64, "turns": 3, "cosine_min": 0.5, "neighbours_at_10": 0.5}
    stage = Search(precision="fp32", provider=f"{OPENVINO}:NUM_STREAMS=1", **quick)
    with writing(tmp_path / "made", "search", "key", stage.model_dump(mode="json")) as draft:
        stage.run(fp32, OnnxInt8(), sentences(40, seed=1), sentences(64, seed=2), tmp_path / "kept", draft)
    choice = read_manifest(tmp_path / "made")["figures"]["choice"]
    assert choice["provider"] == f"{OPENVINO}:NUM_STREAMS=1"
    assert choice["figures"]["nodes_on_cpu_provider"] >= 0
    assert facts(tmp_path / "made")["form"].startswith(f"searched for {choice['cpu']} on {OPENVINO}:NUM_STREAMS=1 with")
    assert Running.load(tmp_path / "made", OPENVINO) == Running.read(choice["running"])
    assert Running.load(tmp_path / "made") == Running()


def test_a_manifest_states_the_version_of_the_runtime_under_its_other_name() -> None:
    assert versions()["onnxruntime"] == onnxruntime.__version__
