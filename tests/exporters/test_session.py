"""Texts in any order and shape get the vectors that PyTorch gives them; what is not there is said in one line."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import sentences

from compressor.artifact.layout import GRAPH
from compressor.core.encoder import Encoder
from compressor.core.errors import ArtifactError, ProviderError, TextError
from compressor.models.sentence_model import open_model
from exporters import session
from exporters.runtime import providers
from exporters.runtime.names import OPENVINO
from exporters.runtime.providers import CPU, CUDA, TENSORRT, open_session, with_options
from exporters.runtime.running import BF16_PRODUCTS, Running
from exporters.session import OnnxEncoder

# Lengths of 2 to 64 tokens, so that a batch of like length never has neighbours in the order given.
MIXED = [" ".join(sentences(8, seed=i))[: 4 + 7 * (i * 37 % 61)] for i in range(90)]
UNUSUAL = [
    "",
    " ",
    "\n\t\r",
    "🐈 and 👩‍👩‍👧",
    "猫 sleeps 東京",
    "Ü é ñ \u0301\u200b\ufeff",
    "\x00 null \x07 bell \x1b[31m",
    "[CLS] cat [SEP] [PAD] [MASK]",
    "THE CAT",
    "unheardofwordwithoutend" * 20,
    "a" * 5000,
    "‮right to left‬ قطة",
]


@pytest.fixture(scope="module")
def fp32(artifacts: Callable[..., Path]) -> Path:
    return artifacts() / "fp32"


@pytest.fixture
def broken(fp32: Path, tmp_path: Path) -> Path:
    """Return a copy of an artifact, to be damaged."""
    return Path(shutil.copytree(fp32, tmp_path / "artifact"))


def test_it_is_an_encoder(fp32: Path) -> None:
    encoder = OnnxEncoder(fp32)
    assert isinstance(encoder, Encoder)
    assert (encoder.dim, encoder.max_length, encoder.providers) == (32, 64, [CPU])
    assert isinstance(OnnxEncoder(str(fp32)).folder, Path)


@pytest.mark.parametrize("threads", [1, 2])
def test_order_is_kept(fp32: Path, threads: int) -> None:
    encoder = OnnxEncoder(fp32, threads=threads)
    lengths = [len(ids) for ids in encoder.tokenize(MIXED)]
    assert min(lengths) == 3
    assert max(lengths) == 64
    assert lengths != sorted(lengths, reverse=True)
    alone = np.concatenate([encoder.encode([text]) for text in MIXED])
    assert np.abs(encoder.encode(MIXED, batch_size=7) - alone).max() < 1e-5
    assert np.abs(np.diff(alone, axis=0)).max(axis=1).min() > 1e-3  # a row out of place would show


def test_threads_and_batch_sizes_agree(fp32: Path) -> None:
    one, two = OnnxEncoder(fp32, threads=1), OnnxEncoder(fp32, threads=2)
    expected = one.encode(MIXED, batch_size=1)
    for size in (2, 32, 90, 1000):
        assert np.abs(one.encode(MIXED, size) - expected).max() < 1e-5
        assert np.abs(two.encode(MIXED, size) - expected).max() < 1e-5


def test_a_batch_has_no_more_tokens_than_a_core_keeps(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(["cat"] * (3 + i % 50)) for i in range(150)]
    shapes: list[tuple[int, ...]] = []
    real = OnnxEncoder.run_ids

    def watched(encoder: OnnxEncoder, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        shapes.append(ids.shape)
        return real(encoder, ids, mask)

    monkeypatch.setattr(OnnxEncoder, "run_ids", watched)
    wanted = OnnxEncoder(fp32, threads=1, running=Running(batch_tokens=None)).encode(texts, 150)
    assert shapes == []  # one batch, on all threads
    encoder = OnnxEncoder(fp32, threads=2)
    for size in (150, 32):  # as many rows as there are texts, and fewer
        shapes.clear()
        np.testing.assert_allclose(encoder.encode(texts, size), wanted, atol=1e-5)
        assert sum(rows for rows, _ in shapes) == 150
        assert 128 < max(rows * tokens for rows, tokens in shapes) <= 256
        assert max(rows for rows, _ in shapes) <= size


def test_texts_are_read_ahead_in_pieces(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = OnnxEncoder(fp32, threads=2)
    expected = encoder.encode(MIXED, 8)
    monkeypatch.setattr(session, "_AHEAD", 20)
    assert np.abs(encoder.encode(MIXED, 8) - expected).max() < 1e-5


def test_no_more_than_two_pieces_are_held(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One piece computes while the next is tokenized; what an interrupt must wait for is bounded by it.
    monkeypatch.setattr(session, "_AHEAD", 10)
    encoder, waiting = OnnxEncoder(fp32, threads=1), []
    tokenize, run_ids = encoder.tokenize, encoder.run_ids

    def watched(*given: Any) -> Any:
        waiting.append(encoder._pool._work_queue.qsize())
        return tokenize(*given)

    def slow(ids: Any, mask: Any) -> Any:
        time.sleep(0.001)  # slower than tokenizing
        return run_ids(ids, mask)

    monkeypatch.setattr(encoder, "tokenize", watched)
    monkeypatch.setattr(encoder, "run_ids", slow)
    encoder.encode(MIXED, batch_size=1)
    assert len(waiting) == 9
    assert 0 < max(waiting) <= 10


def test_a_stream_of_texts_is_read_as_its_vectors_are_asked_for(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_AHEAD", 10)
    encoder, read = OnnxEncoder(fp32, threads=2), []

    def texts() -> Iterator[str]:
        for text in MIXED * 3:
            read.append(text)
            yield text

    blocks = []
    for block in encoder.stream(texts(), 4):
        blocks.append(block)
        assert len(read) <= 10 * (len(blocks) + 1)
    assert [len(block) for block in blocks[:-1]] == [10] * (len(blocks) - 1)
    assert np.abs(np.concatenate(blocks) - encoder.encode(MIXED * 3, 4)).max() < 1e-6
    assert list(encoder.stream([])) == []
    codes = np.concatenate(list(encoder.stream(iter(MIXED), precision="ubinary")))
    assert np.array_equal(codes, encoder.encode(MIXED, precision="ubinary"))
    with pytest.raises(TextError, match="^texts: one text was given where many belong$"):
        encoder.stream("cat")


def test_a_stream_that_is_left_computes_no_more(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_AHEAD", 10)
    encoder, run = OnnxEncoder(fp32, threads=1), []
    run_ids = encoder.run_ids

    def slow(ids: Any, mask: Any) -> Any:
        run.append(len(ids))
        time.sleep(0.01)
        return run_ids(ids, mask)

    monkeypatch.setattr(encoder, "run_ids", slow)
    stream = encoder.stream(MIXED * 3, batch_size=1)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    encoder._pool.shutdown()
    assert len(run) < 20


def test_shapes_at_the_edges(fp32: Path) -> None:
    encoder = OnnxEncoder(fp32)
    none, one, many = encoder.encode([]), encoder.encode(["cat"]), encoder.encode(["cat"] * 65, 64)
    assert (none.shape, one.shape, many.shape) == ((0, 32), (1, 32), (65, 32))
    assert {v.dtype for v in (none, one, many)} == {np.dtype(np.float32)}
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-6)
    assert np.abs(many - one).max() < 1e-6


@pytest.mark.parametrize("options", [{}, {"family": "roberta"}], ids=["bert", "roberta"])
def test_unusual_texts_equal_sentence_transformers(
    options: dict[str, Any], artifacts: Callable[..., Path], make_model: Callable[..., Path]
) -> None:
    home = artifacts(**options)
    model = home / "model" if options else make_model()
    expected = open_model(model).encode(UNUSUAL)
    assert np.abs(OnnxEncoder(home / "fp32").encode(UNUSUAL, 4) - expected).max() < 1e-5


def test_long_texts_are_cut_as_the_tokenizer_cuts_them(fp32: Path, tiny: Path) -> None:
    encoder, text = OnnxEncoder(fp32), "the cat sleeps " * 100
    (ids,) = encoder.tokenize([text])
    assert len(ids) == 64
    assert ids == open_model(tiny).tokenizer(text, truncation=True, max_length=64)["input_ids"]
    assert np.abs(encoder.encode([text]) - open_model(tiny).encode([text])).max() < 1e-5
    whole, cut = encoder.tokenize(["cat " * 62, "cat " * 62 + "dog"])  # 62 words and two special tokens just fit
    assert len(whole) == 64
    assert cut == whole


def test_padding_is_as_wide_as_the_longest(fp32: Path) -> None:
    encoder = OnnxEncoder(fp32)
    ids, mask = encoder.pad([[2, 5, 3], [2, 3]], extra=2)
    assert ids.tolist() == [[2, 5, 3, 0, 0], [2, 3, 0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 0, 0]]
    assert (ids.dtype, mask.dtype) == (np.int64, np.int64)


def test_an_absent_provider_says_how_to_get_it(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", CPU])
    with pytest.raises(ProviderError) as caught:
        OnnxEncoder(fp32, providers=[CUDA])
    assert str(caught.value) == (
        "CUDAExecutionProvider: not in this ONNX Runtime (has AzureExecutionProvider, CPUExecutionProvider); "
        "pip uninstall onnxruntime && pip install onnxruntime-gpu, with an NVIDIA driver"
    )


def test_an_unknown_provider_is_refused(fp32: Path) -> None:
    with pytest.raises(ProviderError, match=r"^'Fast': no execution provider; allowed: CPUExecutionProvider, CUDA"):
        OnnxEncoder(fp32, providers=[CPU, "Fast"])
    with pytest.raises(ProviderError, match=r"^no execution provider given; CPUExecutionProvider is always there$"):
        OnnxEncoder(fp32, providers=[])


def test_a_silent_fall_back_is_refused(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A GPU build without a driver lists CUDA, warns, and runs on the CPU.
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    real = providers.onnxruntime.InferenceSession
    monkeypatch.setattr(providers.onnxruntime, "InferenceSession", lambda *a, **k: real(*a, providers=[CPU]))
    message = r"^CUDAExecutionProvider: asked for, and ONNX Runtime fell back to CPUExecutionProvider$"
    for asked in ([CUDA], [CUDA, CPU], [CPU, CUDA]):
        with pytest.raises(ProviderError, match=message):
            OnnxEncoder(fp32, providers=asked)


def test_tensorrt_by_name_says_what_is_missing(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = "pip uninstall onnxruntime && pip install onnxruntime-gpu tensorrt, with an NVIDIA driver"
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    with pytest.raises(ProviderError) as caught:
        OnnxEncoder(fp32, providers=[TENSORRT])
    assert str(caught.value) == (
        f"TensorrtExecutionProvider: not in this ONNX Runtime (has CUDAExecutionProvider, CPUExecutionProvider); {how}"
    )
    # onnxruntime-gpu lists it, too, where TensorRT's own libraries are not there.
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    real = providers.onnxruntime.InferenceSession
    monkeypatch.setattr(providers.onnxruntime, "InferenceSession", lambda *a, **k: real(*a, providers=[CPU]))
    with pytest.raises(ProviderError) as caught:
        OnnxEncoder(fp32, providers=[TENSORRT])
    assert str(caught.value) == (
        f"TensorrtExecutionProvider: asked for, and ONNX Runtime fell back to CPUExecutionProvider; {how}"
    )


def test_nodes_that_would_fall_to_the_cpu_provider_are_counted_and_refused(
    fp32: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime's own word on a session that has the CPU provider alone, where another was asked for."""
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [OPENVINO, CPU])
    real = providers.onnxruntime.InferenceSession
    monkeypatch.setattr(providers.onnxruntime, "InferenceSession", lambda *a, **k: real(*a, providers=[CPU]))
    with pytest.raises(ProviderError, match=rf"^{OPENVINO}: asked for, and ONNX Runtime fell back to {CPU}$"):
        OnnxEncoder(fp32, providers=[OPENVINO])
    told = (OPENVINO, {"NUM_STREAMS": 2})
    with pytest.raises(ProviderError, match=rf"^{OPENVINO}: asked for with NUM_STREAMS=2, and ONNX Runtime fell back"):
        OnnxEncoder(fp32, providers=[told])
    monkeypatch.setattr(providers, "check_active", lambda asked, active: None)
    counted = r"(\d+) of \1 nodes on CPUExecutionProvider \(\w+ \d+, .*\), which was not asked for; give it behind"
    with pytest.raises(ProviderError, match=rf"^{OPENVINO}: {counted}") as caught:
        OnnxEncoder(fp32, providers=[told])
    assert "\n" not in str(caught.value)
    allowed = OnnxEncoder(fp32, providers=[told, CPU])
    assert allowed.providers == [f"{OPENVINO}:NUM_STREAMS=2", CPU]
    assert allowed.placed is not None
    assert list(allowed.placed) == [CPU]
    assert sum(allowed.placed[CPU].values()) > 10
    assert OnnxEncoder(fp32).placed is None


def test_what_a_provider_says_of_its_options_is_no_run_on_the_cpu(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime raises, unless it may fall back: then it prints, and opens the graph on the CPU."""
    asked: dict[str, Any] = {}
    real = providers.onnxruntime.InferenceSession

    def watched(*given: Any, **options: Any) -> Any:
        asked.update(options)
        return real(*given, providers=[CPU])

    monkeypatch.setattr(providers.onnxruntime, "InferenceSession", watched)
    open_session(fp32, [CPU], 1)
    assert asked["enable_fallback"] is False


def test_fp32_in_bf16_on_arm_is_told_to_the_session(fp32: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str | None] = []
    real = providers.onnxruntime.InferenceSession

    def watched(path: str, options: Any, **rest: Any) -> Any:
        try:
            told.append(options.get_session_config_entry(BF16_PRODUCTS))
        except Exception:  # ONNX Runtime's own kind: it was not set
            told.append(None)
        return real(path, options, **rest)

    monkeypatch.setattr(providers.onnxruntime, "InferenceSession", watched)
    exact = OnnxEncoder(fp32, threads=1).encode(MIXED)
    own = OnnxEncoder(fp32, threads=1, running=Running(bf16_products=True)).encode(MIXED)
    assert told == [None, "1"]
    assert Running(bf16_products=True).session_options() == {BF16_PRODUCTS: "1"}
    assert np.abs(own - exact).max() < 0.02  # to the bit but on ARM


def test_providers_are_opened_with_those_behind_them_and_exact_products() -> None:
    exact = (CUDA, {"use_tf32": "0"})
    assert with_options([CPU]) == [(CPU, {})]
    assert with_options([CUDA, CPU]) == [exact, (CPU, {})]
    assert with_options([TENSORRT]) == [(TENSORRT, {}), exact]
    assert with_options([TENSORRT, CUDA]) == [(TENSORRT, {}), exact]


def test_a_run_that_fails_is_not_run_again_elsewhere(fp32: Path) -> None:
    opened = open_session(fp32, [CPU], 1)
    assert opened._enable_fallback is False  # ONNX Runtime's own switch; it prints, and runs on the CPU


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "text"])
def test_a_broken_graph_is_one_line(damage: str, broken: Path) -> None:
    path = broken / GRAPH
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[:-1000], "text": b"no graph"}.get(damage, whole))
    if damage == "missing":
        path.unlink()
    with pytest.raises(ArtifactError) as caught:
        OnnxEncoder(broken)
    assert str(caught.value).startswith(f"{path}: cannot be loaded: ")
    assert "\n" not in str(caught.value)


def test_a_graph_without_the_output_is_refused(broken: Path) -> None:
    model = onnx.load(broken / GRAPH)
    del model.graph.output[1]
    onnx.save(model, broken / GRAPH)
    with pytest.raises(ArtifactError, match=r"model\.onnx: no output sentence_embedding$"):
        OnnxEncoder(broken)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "sentence_bert_config.json"])
@pytest.mark.parametrize("content", [None, "", "{", "[]"], ids=["missing", "empty", "no JSON", "a list"])
def test_a_broken_tokenizer_is_one_line(name: str, content: str | None, broken: Path) -> None:
    (broken / name).unlink() if content is None else (broken / name).write_text(content)
    with pytest.raises(ArtifactError) as caught:
        OnnxEncoder(broken)
    files = "tokenizer.json, config.json and sentence_bert_config.json"
    assert str(caught.value) == f"{broken}: no readable {files}"


def test_prompts_that_name_none_are_refused(broken: Path) -> None:
    (broken / "config_sentence_transformers.json").write_text('{"prompts": {}, "default_prompt_name": "ask"}')
    with pytest.raises(ArtifactError, match=r"\.json: default_prompt_name = 'ask': must be 'query' or 'document'$"):
        OnnxEncoder(broken)
    (broken / "config_sentence_transformers.json").unlink()  # older models have none
    assert OnnxEncoder(broken).prompt == ""


def test_pytorch_is_not_needed(fp32: Path) -> None:
    code = (
        "import sys, exporters.session as s\n"
        f"vectors = s.OnnxEncoder({str(fp32)!r}).encode(['the cat'])\n"
        "print(vectors.shape, {'torch', 'transformers', 'sentence_transformers', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 32) set()"


def test_one_text_where_a_list_belongs_is_refused(fp32: Path) -> None:
    with pytest.raises(TextError, match="^texts: one text was given where a list of texts belongs$"):
        OnnxEncoder(fp32).encode("the cat sleeps")
