"""Decoders that make vectors: read by their last token or both ways, each as sentence-transformers computes it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from builders import sentences, tokenizer
from families import random_decoder
from graphs import draft
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Tokenizer

from compressor.core.errors import ModelError
from compressor.distil.student.layers import keep_layers
from compressor.distil.training.embedding import Distil
from compressor.models.agreement import Heldout, cosines
from compressor.models.bulk import BulkEncoder
from compressor.models.decoders import reads_ahead
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.models.source import check_folder, find
from compressor.vectors.pca import Pca
from exporters.graph.export import Export
from exporters.graph.optimise import Optimise
from exporters.precision.calibrate import batches_of_texts
from exporters.precision.int8 import OnnxInt8
from exporters.session import OnnxEncoder
from exporters.verify.check import gate
from exporters.verify.embedding import Verify

FAMILIES = ["Qwen3", "Gemma3Text"]
TEXTS = [*sentences(24), "cat", "the cat sees " * 15]  # the last is cut, and longer than Gemma's window
FOUR = transformers.__version__.startswith("4.")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("decoders")
    left = tokenizer()
    left.padding_side = "left"
    return {
        "Qwen3": random_decoder("Qwen3", left, folder / "qwen3"),
        "Gemma3Text": random_decoder("Gemma3Text", tokenizer(), folder / "gemma3", "mean"),
    }


@pytest.fixture(scope="module")
def exported(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for family, model in models.items():
        to = tmp_path_factory.mktemp(family)
        Export().run(model, draft(to / "plain"))
        Optimise().run(to / "plain", draft(to / "fp32"))
        made[family] = to / "fp32"
    return made


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def line(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_model(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_graph_gives_the_vectors_of_sentence_transformers(
    models: dict[str, Path], exported: dict[str, Path], family: str
) -> None:
    model, graph = SentenceTransformer(str(models[family]), device="cpu"), OnnxEncoder(exported[family], threads=1)
    assert np.abs(model.encode(TEXTS) - graph.encode(TEXTS)).max() < 1e-5
    assert np.abs(model.encode_query(TEXTS) - graph.encode_query(TEXTS)).max() < 1e-5
    assert np.abs(model.encode(TEXTS) - graph.encode_query(TEXTS)).max() > 1e-2  # the prompt does something
    assert np.abs(model.encode_document(TEXTS) - graph.encode_document(TEXTS)).max() < 1e-5
    padded = graph.run_ids(*graph.pad(graph.tokenize(TEXTS[:2]), 7))
    assert np.abs(padded - model.encode(TEXTS[:2])).max() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_is_near(models: dict[str, Path], exported: dict[str, Path], family: str, tmp_path: Path) -> None:
    fp32 = exported[family]
    OnnxInt8().run(fp32, draft(tmp_path / "int8"), lambda: batches_of_texts(fp32, TEXTS))
    assert (
        cosines(
            OnnxEncoder(tmp_path / "int8", threads=1).encode(TEXTS), open_model(models[family]).encode(TEXTS)
        ).mean()
        > 0.99
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_reduced_vectors_pass_the_gate(models: dict[str, Path], family: str, tmp_path: Path) -> None:
    teacher = TorchEncoder.load(models[family])
    texts, heldout = sentences(300), sentences(60, 1)
    dev = Heldout(heldout, teacher.encode(heldout))
    Pca(dim=8).run(models[family], texts, dev, draft(tmp_path / "pca"))
    Export().run(tmp_path / "pca", draft(tmp_path / "plain"))
    Optimise().run(tmp_path / "plain", draft(tmp_path / "fp32"))
    own, graph = SentenceTransformer(str(tmp_path / "pca"), device="cpu"), OnnxEncoder(tmp_path / "fp32", threads=1)
    assert np.abs(own.encode_query(TEXTS) - graph.encode_query(TEXTS)).max() < 1e-5
    bars = Verify(teacher_cosine_mean=0.5, teacher_cosine_p1=0.1, teacher_cosine_min=0.05, neighbours_at_10=0.1)
    gate(bars.examine("fp32", tmp_path / "fp32", tmp_path / "pca", dev))
    OnnxInt8().run(tmp_path / "fp32", draft(tmp_path / "int8"), lambda: batches_of_texts(tmp_path / "fp32", texts))
    gate(bars.examine("int8", tmp_path / "int8", tmp_path / "pca", dev))


@pytest.mark.parametrize("family", FAMILIES)
def test_many_texts_at_once_have_the_same_vectors(models: dict[str, Path], family: str) -> None:
    bulk = BulkEncoder.load(models[family])
    seen: list[int] = []
    own = bulk._run
    bulk._run = lambda features: seen.append(len(features["input_ids"])) or own(features)  # type: ignore[method-assign, func-returns-value]
    bulk.batch_tokens = 64
    assert np.abs(bulk.encode(TEXTS) - open_model(models[family]).encode(TEXTS)).max() < 1e-5
    assert len(seen) > 3  # batches of like length, whichever side is padded


@pytest.mark.parametrize("family", FAMILIES)
def test_some_of_the_layers_are_a_model_again(models: dict[str, Path], family: str, tmp_path: Path) -> None:
    student = keep_layers(open_model(models[family]), (0, 2))
    expected = student.encode(TEXTS)
    student.save_pretrained(str(tmp_path / "student"), create_model_card=False)
    assert np.abs(open_model(tmp_path / "student").encode(TEXTS) - expected).max() < 1e-6
    Export().run(tmp_path / "student", draft(tmp_path / "plain"))
    assert np.abs(OnnxEncoder(tmp_path / "plain", threads=1).encode(TEXTS) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("family", "options", "reason"),
    [
        ("Qwen3", {"width": 8}, "qwen3: its layers normalize what they read; states are as wide as the teacher's"),
        ("Qwen3", {"heads": 1}, "qwen3: its layers normalize what they read; heads are as many as the teacher's"),
        ("Gemma3Text", {"width": 8}, "gemma3_text: norms stand behind its products as well as in front of them"),
        ("Gemma3Text", {"feed_forward": 8}, "gemma3_text: norms stand behind its products"),
        ("Gemma3Text", {"start": "fitted"}, "gemma3_text: norms stand behind its products"),
    ],
)
def test_what_cannot_be_made_of_a_decoder_is_said_before_any_work(
    models: dict[str, Path], family: str, options: Any, reason: str
) -> None:
    teacher = open_model(models[family])
    Distil(layers=2).check(teacher)
    with pytest.raises(ModelError, match=f"^{reason}"):
        Distil(layers=2, **options).check(teacher)


def test_a_token_reads_as_is_stated(models: dict[str, Path]) -> None:
    assert [reads_ahead(transformer_of(open_model(models[family]))) for family in FAMILIES] == [False, True]


def test_a_causal_decoder_is_not_averaged(tmp_path: Path) -> None:
    folder = random_decoder("Qwen3", tokenizer(), tmp_path / "mean", "mean")
    assert line(folder) == (
        f"{folder}: qwen3 is decoder-only, and pooled by mean: its tokens read those before them alone; must be "
        "lasttoken or weightedmean, or use_bidirectional_attention"
    )
    pooling = folder / "1_Pooling" / "config.json"
    pooling.write_text(json.dumps({"word_embedding_dimension": 16, "pooling_mode_weightedmean_tokens": True}))
    check_folder(folder)
    pooling.write_text(json.dumps({"embedding_dimension": 16, "pooling_mode": ["lasttoken", "cls"]}))
    assert "pooled by lasttoken and cls" in line(folder)


def test_a_direction_that_this_transformers_does_not_compute(models: dict[str, Path], tmp_path: Path) -> None:
    folder = random_decoder("Qwen3", tokenizer(), tmp_path / "both", "mean")
    change(folder / "config.json", is_causal=False)
    if FOUR:
        assert line(folder).startswith(f"{folder / 'config.json'}: a token reads both ways, which transformers 4.")
        return
    Export().run(folder, draft(tmp_path / "plain"))
    own = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert np.abs(OnnxEncoder(tmp_path / "plain", threads=1).encode(TEXTS) - own).max() < 1e-5
    change(folder / "config.json", is_causal=True)
    change(folder / "1_Pooling" / "config.json", pooling_mode="lasttoken")
    assert not reads_ahead(transformer_of(open_model(folder)))


def test_a_window_is_written_as_it_was_read(models: dict[str, Path], tmp_path: Path) -> None:
    model = open_model(models["Gemma3Text"])
    expected = model.encode(TEXTS)
    for name in ("once", "twice"):
        model.save_pretrained(str(tmp_path / name), create_model_card=False)
        model = open_model(tmp_path / name)
        assert json.loads((tmp_path / name / "config.json").read_text())["sliding_window"] == 8
    assert np.abs(model.encode(TEXTS) - expected).max() < 1e-6


def test_the_window_is_of_that_many_tokens_each_way(tmp_path: Path) -> None:
    wide = random_decoder("Gemma3Text", tokenizer(), tmp_path / "wide", "mean", sliding_window=64)
    narrow = random_decoder("Gemma3Text", tokenizer(), tmp_path / "narrow", "mean", sliding_window=8)
    short, long = "the cat sees", "the cat sees " * 9
    sides = [open_model(folder).encode([short, long]) for folder in (wide, narrow)]
    assert np.abs(sides[0][0] - sides[1][0]).max() < 1e-6 < 1e-3 < np.abs(sides[0][1] - sides[1][1]).max()


def test_special_tokens_without_a_vector_are_read_by_their_characters(models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["Qwen3"], tmp_path / "model"))
    expected = open_model(folder).encode(["the <image> cat"])
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words.add_special_tokens([AddedToken("<image>", special=True)])
    words.save(str(folder / "tokenizer.json"))
    model = open_model(folder)
    assert "<image>" not in model.tokenizer.get_vocab()
    assert np.array_equal(model.encode(["the <image> cat"]), expected)
    Export().run(folder, draft(tmp_path / "plain"))
    graph = OnnxEncoder(tmp_path / "plain", threads=1)
    assert np.abs(graph.encode(["the <image> cat"]) - expected).max() < 1e-5


@pytest.mark.skipif(not FOUR, reason="transformers 5 reads rope_parameters")
def test_a_rotation_that_transformers_4_does_not_read(models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["Qwen3"], tmp_path / "model"))
    change(folder / "config.json", rope_parameters={"rope_theta": 10_000.0, "rope_type": "default"})
    open_model(folder)
    change(folder / "config.json", rope_parameters={"rope_theta": 5_000.0, "rope_type": "default"})
    assert "rope_parameters = {'rope_theta': 5000.0" in line(folder)


def test_half_precision_is_opened_as_fp32_and_said(models: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models["Qwen3"], tmp_path / "model"))
    weights = {name: value.to(torch.bfloat16) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert [find(str(path)).stored for path in (models["Qwen3"], folder)] == ["fp32", "bf16"]
    model = open_model(folder)
    assert {value.dtype for value in transformer_of(model).parameters()} == {torch.float32}
    save_file({n: v.float() for n, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    assert np.array_equal(open_model(folder).encode(TEXTS), model.encode(TEXTS))
