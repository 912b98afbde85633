"""fp16 for CUDA: what is stored, what stays fp32, what is refused; the run on a device as far as a CPU can be one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import sentences
from graphs import draft
from onnx import TensorProto, numpy_helper

from benchmarks.bench import Bench
from compressor.artifact.cases import FP16_COSINE, INT8_COSINE, NORM
from compressor.artifact.layout import CASES, GRAPH, TAIL
from compressor.cli.bench import _systems
from compressor.core.errors import ArtifactError, GateError, ProviderError
from exporters import session
from exporters.graph.files import run_operators
from exporters.precision.fp16 import Half
from exporters.runtime import providers
from exporters.runtime.providers import CPU, CUDA, TENSORRT, open_session, run_bound
from exporters.session import OnnxEncoder
from exporters.tasks import EMBEDDING, task_named
from exporters.verify.conformance import cases, write_conformance


@pytest.fixture(scope="module")
def made(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = draft(tmp_path_factory.mktemp("fp16") / "made")
    Half().run(artifacts() / "fp32", to)
    return to.folder


def test_layers_are_fp16_and_what_follows_them_is_not(made: Path, artifacts: Callable[..., Path]) -> None:
    exact, stored = onnx.load(artifacts() / "fp32" / GRAPH), onnx.load(made / GRAPH)
    before = {t.name: t for t in exact.graph.initializer if t.data_type == TensorProto.FLOAT}
    after = {t.name: t for t in stored.graph.initializer if t.data_type == TensorProto.FLOAT}
    assert len(after) < len(before)
    assert not [t.name for t in after.values() if "layer." in t.name or "embeddings" in t.name]
    assert (made / GRAPH).stat().st_size < 0.6 * (artifacts() / "fp32" / GRAPH).stat().st_size
    for graph in (exact.graph, stored.graph):
        assert [o.type.tensor_type.elem_type for o in graph.output] == [TensorProto.FLOAT] * 2
        assert {i.type.tensor_type.elem_type for i in graph.input} == {TensorProto.INT64}


def test_vectors_are_those_of_fp32_to_ten_bits(made: Path, artifacts: Callable[..., Path]) -> None:
    texts = [*sentences(50), "", "the cat " * 300]
    exact, near = OnnxEncoder(artifacts() / "fp32").encode(texts), OnnxEncoder(made).encode(texts)
    assert near.dtype == np.float32
    assert 1e-6 < np.abs(exact - near).max() < 5e-3
    assert (exact * near).sum(axis=1).min() > 0.9999
    np.testing.assert_allclose(np.linalg.norm(near, axis=1), 1, atol=1e-6)


def test_its_fusions_are_those_of_fp32(made: Path, artifacts: Callable[..., Path]) -> None:
    exact, found = run_operators(artifacts() / "fp32" / GRAPH), run_operators(made / GRAPH)
    for kind in ("Attention", "BiasGelu"):
        assert found[kind] == exact[kind] > 0


def test_a_conformance_set_becomes_its_own(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "fp32"
    shutil.copytree(artifacts() / "fp32", source)
    write_conformance(source)
    Half().run(source, to := draft(tmp_path / "fp16"))
    stated = json.loads((to.folder / CASES).read_text(encoding="utf-8"))
    assert stated["tolerance"] == {"absolute": 1e-4, "cosine": FP16_COSINE, "norm": NORM}
    assert [case["outputs"] for case in stated["cases"]] == [case["outputs"] for case in cases(to.folder)]
    assert FP16_COSINE > INT8_COSINE


def test_a_bar_that_is_missed_is_refused(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(
        GateError, match=r"^verify fp16: parity with fp32: cosine_min = .*, must be >= 1; the bar is fp16\.cosine_min$"
    ):
        Half(cosine_min=1.0).run(artifacts() / "fp32", draft(tmp_path / "fp16"))


def test_int8_is_refused(artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArtifactError, match=r"model\.onnx: int8 already; fp16 is made from the fp32 graph$"):
        Half().run(artifacts() / "int8", draft(tmp_path / "fp16"))
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    for device in (CUDA, TENSORRT):
        with pytest.raises(ProviderError) as caught:
            OnnxEncoder(artifacts() / "int8", providers=[device])
        assert str(caught.value) == (
            f"{device}: {artifacts() / 'int8' / GRAPH} multiplies int8, for which ONNX Runtime has no CUDA kernels: "
            "each product would go to the CPU and back; give the fp32 artifact, or fp16 of it (compressor fp16)"
        )


def test_a_run_on_a_device_gives_what_a_plain_one_does(artifacts: Callable[..., Path]) -> None:
    folder = artifacts() / "fp32"
    opened, encoder = open_session(folder, [CPU], 1), OnnxEncoder(folder)
    ids, mask = encoder.pad(encoder.tokenize(sentences(20)))
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    made = run_bound(opened, inputs, "sentence_embedding", "cpu")
    np.testing.assert_array_equal(made, opened.run(["sentence_embedding"], inputs)[0])


def test_on_cuda_every_batch_is_run_on_the_device(
    artifacts: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU session in its place: what is asked of it is the same."""
    folder, texts, asked = artifacts() / "fp32", sentences(70), []

    def bound(one: object, inputs: dict[str, np.ndarray], output: str, device: str) -> np.ndarray:
        asked.append((len(inputs["input_ids"]), output, device))
        return run_bound(one, inputs, output, "cpu")

    monkeypatch.setattr(session, "require_providers", lambda providers: None)
    monkeypatch.setattr(
        "exporters.runtime.sessions.open_session",
        lambda folder, _, threads, running, **more: open_session(folder, [CPU], threads),
    )
    monkeypatch.setattr(session, "run_bound", bound)
    vectors = OnnxEncoder(folder, providers=[CUDA]).encode(texts)
    np.testing.assert_allclose(vectors, OnnxEncoder(folder).encode(texts), atol=1e-6)
    assert sum(count for count, *_ in asked) == 70
    assert {tuple(rest) for _, *rest in asked} == {("sentence_embedding", "cuda")}


def test_bench_measures_on_cuda_what_runs_there(artifacts: Callable[..., Path], tiny: Path) -> None:
    everywhere, task = Bench(providers=(CPU, CUDA, TENSORRT)), task_named(EMBEDDING)
    for folder, kind, names in (
        (tiny, "torch", ["one", "one-cuda", "one-fp16-cuda"]),
        (tiny, "torch-int8", ["one"]),
        (artifacts() / "fp32", "onnx", ["one", "one-cuda", "one-tensorrt"]),
        (artifacts() / "int8", "onnx", ["one"]),
    ):
        assert [system.name for system in _systems(task, "one", "label", folder, kind, everywhere)] == names
        assert [system.name for system in _systems(task, "one", "label", folder, kind, Bench())] == ["one"]


@pytest.mark.parametrize("options", [{}, {"dense": 16}], ids=["bare", "dense"])
def test_of_a_first_tokens_vector_the_layers_alone_are_fp16(
    options: dict[str, Any], artifacts: Callable[..., Path], tmp_path: Path
) -> None:
    fp32 = artifacts(pooling="cls", **options) / "fp32"
    Half().run(fp32, to := draft(tmp_path / "fp16"))
    exact, stored = (onnx.load(folder / GRAPH).graph for folder in (fp32, to.folder))
    tails = [[node for node in graph.node if f"/{TAIL}." in node.name] for graph in (exact, stored)]
    assert sorted(node.name for node in tails[0]) == sorted(node.name for node in tails[1]) != []
    halves = {t.name for t in stored.initializer if t.data_type == TensorProto.FLOAT16}
    assert len(halves) > 20
    assert not halves & {name for node in tails[1] for name in node.input}
    dense = [
        [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == TensorProto.FLOAT and 16 in t.dims]
        for graph in (exact, stored)
    ]
    assert len(dense[0]) == len(dense[1]) == (2 if options else 0)  # weight and bias
    for one, other in zip(*dense, strict=True):
        np.testing.assert_array_equal(one, other)
    texts = [*sentences(50), "", "the cat " * 300]
    wanted, made = OnnxEncoder(fp32).encode(texts), OnnxEncoder(to.folder).encode(texts)
    assert 1e-6 < np.abs(wanted - made).max() < 2e-2
    assert (wanted * made).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)


def test_the_first_token_is_what_cls_pooling_takes_in_fp16(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    Half().run(artifacts(pooling="cls") / "fp32", to := draft(tmp_path / "fp16"))
    opened, encoder = open_session(to.folder, [CPU], 1), OnnxEncoder(to.folder)
    ids, mask = encoder.pad(encoder.tokenize(sentences(20)))
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    states, vectors = opened.run(["last_hidden_state", "sentence_embedding"], inputs)
    first = states[:, 0]
    np.testing.assert_allclose(vectors, first / np.linalg.norm(first, axis=1, keepdims=True), atol=1e-6)
