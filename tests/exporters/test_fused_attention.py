"""Attention of families that ONNX Runtime's optimiser does not know runs as one operator, and gives the same."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from families import LAYERS, random_encoder
from graphs import draft, words

from compressor.artifact.layout import GRAPH
from compressor.models.sentence_model import TorchEncoder
from exporters.graph.attention import _is_table, fuse_attention
from exporters.graph.export import Export
from exporters.graph.files import nodes
from exporters.graph.optimise import Optimise
from exporters.graph.probe import values
from exporters.session import OnnxEncoder

TEXTS = ["cat", "the cat sleeps", "a dog and a cat " * 3, "", "the old dog sees a cat in the house " * 5]


def fused(family: str, folder: Path, **options: Any) -> tuple[onnx.ModelProto, Path]:
    """Export and optimise a random model of a family; return the graph, and the folder of model and artifact."""
    model = random_encoder(family, words(), folder / "raw", pad_token_id=1, **options)
    model.max_seq_length = min(1000, options.get("max_position_embeddings", 32))
    model.save_pretrained(str(folder / "model"), create_model_card=False)
    plain, made = draft(folder / "plain"), draft(folder / "fp32")
    Export().run(folder / "model", plain)
    Optimise().run(plain.folder, made)
    return onnx.load(made.folder / GRAPH), folder


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize(
    ("family", "options", "turned"),
    [
        ("MPNet", {}, 0),
        ("T5", {"d_kv": 4}, 0),  # heads that are not their share of the width
        ("ModernBert", {"local_attention": 8, "global_attn_every_n_layers": 2}, 2),
        ("NomicBert", {}, 2),
        ("EuroBert", {}, 2),
        ("Gte", {}, 2),
        ("Gemma3Text", {"sliding_window": 8}, 1),  # keys that two queries share are turned before they are shared
    ],
)
def test_it_is_one_operator_a_layer_that_gives_what_pytorch_does(
    family: str, options: dict[str, Any], turned: int, tmp_path: Path
) -> None:
    model, folder = fused(family, tmp_path, **options)
    found = operators(model)
    assert found["MultiHeadAttention"] == LAYERS
    assert found["RotaryEmbedding"] == turned * LAYERS
    assert "Softmax" not in found
    wanted, own = TorchEncoder.load(folder / "model"), OnnxEncoder(folder / "fp32", threads=1)
    for batch in (1, 2, 5):
        assert np.abs(wanted.encode(TEXTS, batch) - own.encode(TEXTS, batch)).max() < 1e-5


def test_what_texts_have_in_common_is_kept_once(tmp_path: Path) -> None:
    model, _ = fused("ModernBert", tmp_path, local_attention=8, global_attn_every_n_layers=2)
    added = [node.input[5] if len(node.input) > 5 else "" for node in model.graph.node if "Multi" in node.op_type]
    assert sorted(set(added)) == ["", "attention.window.4"]
    mask = np.ones((3, 9), np.int64)
    window = values(model, ["attention.window.4"], mask)["attention.window.4"]
    assert window.shape == (1, 1, 9, 9), "not one a text"
    away = np.abs(np.arange(9)[:, None] - np.arange(9))
    assert ((window[0, 0] == 0) == (away <= 4)).all()


@pytest.mark.parametrize("family", ["ModernBert", "Gemma3Text"])
def test_windows_of_long_texts_are_computed_in_blocks(family: str, tmp_path: Path) -> None:
    own = {"ModernBert": {"local_attention": 8, "global_attn_every_n_layers": 2}, "Gemma3Text": {"sliding_window": 8}}
    model, folder = fused(family, tmp_path, max_position_embeddings=1200, **own[family])
    alike = [node for node in model.graph.node if node.op_type == "If"]
    assert len(alike) == sum(node.op_type == "MultiHeadAttention" for node in nodes(model.graph)) // 2
    wanted, made = TorchEncoder.load(folder / "model"), OnnxEncoder(folder / "fp32", threads=1)
    assert made.max_length > 4 * 32, "a block is 32 tokens, and a text of more than four of them is long"
    texts = ["the cat sees a dog " * count for count in (1, 20, 25, 26, 27, 33, 60, 100)]
    for batch in (1, 3, 8):
        assert np.abs(wanted.encode(texts, batch) - made.encode(texts, batch)).max() < 1e-5
    ids = np.random.default_rng(0).integers(2, 20, (1, 500))
    mask = np.ones((1, 500), np.int64)
    before = made.run_ids(ids, mask)
    far = ids.copy()
    far[0, 480:] = 3
    assert np.abs(made.run_ids(far, mask) - before).max() > 1e-4, "layers that see all stay as they were"


@pytest.mark.parametrize(
    ("few", "many", "table"),
    [
        ([[1.0, 2.0, 1.0, 2.0]], [[1.0, 2.0, 1.0, 2.0], [3.0, 4.0, 3.0, 4.0]], True),
        ([[1.0, 2.0, 1.0, 2.0]], [[1.5, 2.0, 1.5, 2.0], [3.0, 4.0, 3.0, 4.0]], False),  # a longer text has others
        ([[1.0, 1.0, 2.0, 2.0]], [[1.0, 1.0, 2.0, 2.0], [3.0, 3.0, 4.0, 4.0]], False),  # pairs side by side
    ],
)
def test_a_position_is_turned_by_itself_alone(few: Any, many: Any, table: bool) -> None:
    assert _is_table(np.array([[few]], np.float32), np.array([[many]], np.float32)) is table


def test_disentangled_attention_stays_as_it_is(tmp_path: Path) -> None:
    options = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    model, folder = fused("DebertaV2", tmp_path, **options)
    assert operators(model)["MultiHeadAttention"] == 0
    assert operators(model)["Softmax"] == LAYERS
    before = [node.SerializeToString() for node in model.graph.node]
    assert fuse_attention(model, 8, 40) == 0
    assert [node.SerializeToString() for node in model.graph.node] == before
    assert OnnxEncoder(folder / "fp32", threads=1).encode(TEXTS).shape == (len(TEXTS), 16)
