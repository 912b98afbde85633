"""Bulk vectors are those of sentence-transformers' ``encode``, whatever the modules, lengths and prompts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import build, sentences, tokenizer
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

from benchmarks.speed.teacher_vectors import Compared
from compressor.models import bulk
from compressor.models.agreement import cosines
from compressor.models.bulk import BulkEncoder
from compressor.models.sentence_model import TorchEncoder, open_model

TEXTS = [*sentences(150), "a", "a dog " * 60, "x" * 300]  # the last two are cut at 64 tokens


def worst(encoder: BulkEncoder, texts: list[str] = TEXTS) -> float:
    """Return the largest difference to the model's own ``encode``."""
    return float(np.abs(encoder.encode(texts) - TorchEncoder(encoder.model).encode(texts)).max())


@pytest.mark.parametrize(
    "options",
    [{}, {"pooling": "cls", "normalize": False}, {"pooling": "max", "dense": 12}, {"pooling": "weightedmean"}],
)
def test_vectors_are_those_of_encode(make_model: Callable[..., Path], options: dict[str, Any]) -> None:
    encoder = BulkEncoder.load(make_model(**options))
    assert worst(encoder) < 2e-6
    assert encoder.encode(TEXTS).dtype == np.float32


def test_rows_keep_their_order_across_windows(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = BulkEncoder.load(tiny, "fp32")
    for name, size in (("WINDOW_TEXTS", 50), ("_WINDOW_CHARACTERS", 600), ("_GROUP", 7)):
        monkeypatch.setattr(bulk, name, size)
        assert worst(encoder) < 2e-6
    assert encoder.encode([]).shape == (0, 32)


def test_bf16_is_close_and_what_follows_the_transformer_is_fp32(make_model: Callable[..., Path]) -> None:
    folder = make_model(dense=12)
    exact, encoder = TorchEncoder.load(folder).encode(TEXTS), BulkEncoder.load(folder, "bf16")
    kinds = [{p.dtype for p in module.parameters()} for module in encoder.model]
    assert kinds[0] == {torch.bfloat16}
    assert set.union(*kinds[1:]) == {torch.float32}
    vectors = encoder.encode(TEXTS)
    assert 1e-5 < np.abs(vectors - exact).max() < 0.1
    assert cosines(vectors, exact).min() > 0.999


def test_batches_hold_so_many_tokens_and_equal_lengths_go_without_a_mask(tiny: Path) -> None:
    encoder = BulkEncoder(open_model(tiny), batch_tokens=256)
    shapes, masked = [], []

    def look(_: Any, given: tuple[dict[str, Any]]) -> None:
        shapes.append(tuple(given[0]["input_ids"].shape))
        masked.append("attention_mask" in given[0])

    encoder.model[0].register_forward_pre_hook(look)
    encoder.encode(TEXTS)
    assert sum(rows for rows, _ in shapes) == len(TEXTS)
    assert max(rows * tokens for rows, tokens in shapes) <= 256
    assert len(shapes) < 15  # of 153 texts: batches are full
    assert {True, False} == set(masked)
    shapes.clear()
    masked.clear()
    encoder.encode(["a dog sleeps"] * 300)
    assert set(masked) == {False}
    assert shapes == [(51, 5)] * 5 + [(45, 5)]


def test_a_text_longer_than_a_batch_is_a_batch_of_its_own(tiny: Path) -> None:
    assert worst(BulkEncoder(open_model(tiny), batch_tokens=16)) < 2e-6


@pytest.mark.parametrize("include", [True, False])
def test_prompts_are_put_before_the_texts_as_encode_does(tmp_path: Path, include: bool) -> None:
    model = open_model(build(tmp_path / "model"))
    plain = BulkEncoder(model).encode(TEXTS)
    model.prompts = {"query": "two red houses : ", "other": "cat "}
    model.default_prompt_name = "query"
    model.set_pooling_include_prompt(include)
    encoder = BulkEncoder(model)
    assert worst(encoder) < 2e-6
    assert np.abs(encoder.encode(TEXTS) - plain).max() > 0.05
    model.default_prompt_name = None
    assert worst(BulkEncoder(model)) < 2e-6


def test_vectors_may_be_cut(tiny: Path) -> None:
    model = open_model(tiny)
    model.truncate_dim = 8
    encoder = BulkEncoder(model)
    assert encoder.dim == 8
    assert worst(encoder) < 2e-6


def test_models_without_a_transformer() -> None:
    table = torch.randn(len(tokenizer()), 16, generator=torch.Generator().manual_seed(0))
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer(), table), Normalize()], device="cpu")
    assert worst(BulkEncoder(model)) < 2e-6


def test_a_tokenizer_that_pads_at_the_left(tmp_path: Path) -> None:
    model = open_model(build(tmp_path / "model", pooling="lasttoken"))
    model.tokenizer.padding_side = "left"
    encoder = BulkEncoder(model)
    same_length = [text for text in TEXTS if len(text.split()) == 6]
    assert worst(encoder, same_length) < 2e-6


def test_roberta_counts_positions_by_what_is_not_padding(tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import RobertaConfig, RobertaModel

    words = tokenizer()
    words.add_special_tokens({"pad_token": "##z"})  # a padding token whose number is not 0
    config = RobertaConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=200, pad_token_id=words.pad_token_id, type_vocab_size=2, initializer_range=0.2,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(tmp_path / "raw")
    words.save_pretrained(tmp_path / "raw")
    modules = [Transformer(str(tmp_path / "raw"), max_seq_length=64), Pooling(32, pooling_mode="mean")]
    model = SentenceTransformer(modules=modules, device="cpu")
    assert worst(BulkEncoder(model)) < 2e-5


def test_rates_beside_encode_are_compared_round_by_round() -> None:
    found = Compared("teacher", "docstrings", 4096, 32, "bf16", [100.0, 200.0, 50.0], [300.0, 400.0, 125.0], 0.99, {})
    written = found.as_dict()
    assert list(written) == [
        "teacher", "source", "texts", "batch_size", "precision", "texts_per_second", "ratios", "ratio", "cosine_min",
        "environment",
    ]  # fmt: skip
    assert written["texts_per_second"] == {"encode_fp32": [100.0, 200.0, 50.0], "bulk": [300.0, 400.0, 125.0]}
    assert (written["ratios"], written["ratio"], written["cosine_min"]) == ([3.0, 2.0, 2.5], 2.5, 0.99)


@pytest.mark.slow
def test_the_real_teacher_in_bf16(minilm: Any, shared: Path) -> None:
    import csv

    with (shared / "stsb" / "en-dev.csv").open(encoding="utf-8") as file:
        texts = [row[0] for row in csv.reader(file)][::10]
    exact = TorchEncoder.load(minilm.folder).encode(texts)
    assert cosines(BulkEncoder.load(minilm.folder).encode(texts), exact).min() > 0.99999
    assert cosines(BulkEncoder.load(minilm.folder, "bf16").encode(texts), exact).min() > 0.999
