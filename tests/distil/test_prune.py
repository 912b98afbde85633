"""Pruning takes the heads and neurons that matter least, and nothing brings them back."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import sentences, tokenizer
from families import random_encoder, random_transformer
from sentence_transformers import SentenceTransformer

from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.importance import importance
from compressor.distil.student.prune import compact, freeze_pruned, prune
from compressor.distil.student.structure import find_parts
from compressor.models.agreement import cosines
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from exporters.graph.export import Export
from exporters.graph.optimise import Optimise
from exporters.session import OnnxEncoder

TEXTS, HELDOUT = sentences(60), sentences(30, seed=1)
DEAD_HEADS, DEAD_NEURONS = (0, 2), tuple(range(5, 64, 2))  # of 4 and of 64 in each layer


@pytest.fixture(scope="module")
def student(tiny: Path) -> SentenceTransformer:
    return open_model(tiny)


@pytest.fixture(scope="module")
def planted(tiny: Path) -> SentenceTransformer:
    """Return the tiny model with heads and neurons that write next to nothing, unlike what they hold."""
    model = open_model(tiny)
    with torch.no_grad():
        for block in find_parts(transformer_of(model)).blocks:
            for head in DEAD_HEADS:
                block.out.weight[:, 8 * head : 8 * head + 8] *= 1e-4
                block.reads[2].weight[8 * head : 8 * head + 8] *= 3
            block.down.weight[:, list(DEAD_NEURONS)] *= 1e-4
            block.feeds[0].weight[list(DEAD_NEURONS)] *= 3
    return model


def vectors(model: SentenceTransformer, texts: list[str] = HELDOUT) -> np.ndarray[Any, Any]:
    return TorchEncoder(model).encode(texts)


def saved(model: SentenceTransformer, folder: Path) -> Path:
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def fault(kind: type[Exception], call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def zero_heads(model: SentenceTransformer) -> list[list[int]]:
    """Return the heads of each layer that are zeros in query, key, value and output."""
    found = []
    for block in find_parts(transformer_of(model)).blocks:
        parts = [p for part in block.reads for p in (part.weight, part.bias)]
        rows = torch.cat([p.detach().reshape(32, -1) for p in (*parts, block.out.weight.T)], 1).abs().sum(1)
        found.append([head for head in range(4) if rows[8 * head : 8 * head + 8].sum() == 0])
    return found


@pytest.mark.parametrize("other", [False, True])
def test_what_writes_next_to_nothing_goes(planted: SentenceTransformer, other: bool) -> None:
    targets = np.roll(vectors(planted, TEXTS), 1, axis=0) if other else None  # a teacher that the student is far from
    pruned = prune(planted, TEXTS, heads=2, feed_forward=64 - len(DEAD_NEURONS), targets=targets)
    assert zero_heads(pruned) == [list(DEAD_HEADS)] * 4
    alive = [neuron for neuron in range(64) if neuron not in DEAD_NEURONS]
    for ours, theirs in zip(*(find_parts(transformer_of(m)).blocks for m in (pruned, planted)), strict=True):
        assert ours.feeds[0].weight.equal(theirs.feeds[0].weight[alive])
        assert ours.down.weight.equal(theirs.down.weight[:, alive])
    np.testing.assert_allclose(vectors(pruned), vectors(planted), atol=1e-2)


def test_importance_is_what_leaving_a_head_out_moves(student: SentenceTransformer) -> None:
    costs, moved = importance(student, TEXTS).heads[3], []
    for head in range(4):
        without = copy.deepcopy(student)
        with torch.no_grad():
            find_parts(transformer_of(without)).blocks[3].out.weight[:, 8 * head : 8 * head + 8] = 0
        moved.append(np.square(vectors(without, TEXTS) - vectors(student, TEXTS)).sum(1).mean())
    assert np.argsort(moved).tolist() == costs.argsort().tolist()
    assert costs.min() > 0  # also where the loss, and with it its slope, is zero


def test_targets_add_the_slope_of_the_loss(student: SentenceTransformer) -> None:
    own = importance(student, TEXTS)
    same = importance(student, TEXTS, targets=vectors(student, TEXTS))
    far = importance(student, TEXTS, targets=np.roll(vectors(student, TEXTS), 1, axis=0))
    for plain, near, sloped in zip(own.neurons, same.neurons, far.neurons, strict=True):
        np.testing.assert_allclose(near, plain, rtol=1e-3, atol=1e-6)
        assert sloped.sum() > 1.5 * plain.sum()


def test_the_most_important_do_better_than_the_least(student: SentenceTransformer) -> None:
    ours = prune(student, TEXTS, feed_forward=32)
    costs = importance(student, TEXTS)
    worst = copy.deepcopy(student)
    with torch.no_grad():
        for block, cost in zip(find_parts(transformer_of(worst)).blocks, costs.neurons, strict=True):
            block.down.weight[:, cost.argsort(descending=True)[:32]] = 0
    kept = [cosines(vectors(model), vectors(student)).mean() for model in (ours, worst)]
    assert kept[0] > kept[1] + 0.02


def test_nothing_pruned_is_the_student(student: SentenceTransformer) -> None:
    before = vectors(student)
    np.testing.assert_allclose(vectors(prune(student, TEXTS, heads=4, feed_forward=64)), before, atol=1e-6)
    prune(student, TEXTS, heads=1, feed_forward=1)
    np.testing.assert_array_equal(vectors(student), before)


def test_a_pruned_folder_loads_anywhere(student: SentenceTransformer, tmp_path: Path) -> None:
    pruned = prune(student, TEXTS, heads=3, feed_forward=24)
    folder = saved(pruned, tmp_path / "pruned")
    assert json.loads((folder / "config.json").read_text())["intermediate_size"] == 24
    plain = SentenceTransformer(str(folder), device="cpu").encode(HELDOUT, show_progress_bar=False)
    np.testing.assert_allclose(plain, vectors(pruned), atol=1e-6)


@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert", "Electra", "NomicBert", "Gte"])
def test_compact_equals_the_zeros(family: str, tmp_path: Path) -> None:
    options = {"embedding_size": 16} if family == "Electra" else {}
    heads = {"n_heads" if family == "DistilBert" else "num_attention_heads": 4}
    model = random_encoder(family, tokenizer(), tmp_path / "model", **options, **heads)
    pruned = prune(model, TEXTS, heads=1, feed_forward=20)
    before, weights = vectors(pruned), sum(value.numel() for value in pruned.parameters())
    assert compact(pruned) == 9
    np.testing.assert_allclose(vectors(pruned), before, atol=1e-5)
    assert sum(value.numel() for value in pruned.parameters()) < weights
    assert compact(pruned) == compact(model) == 0


def test_a_layer_keeps_a_head(student: SentenceTransformer) -> None:
    empty = copy.deepcopy(student)
    with torch.no_grad():
        block = find_parts(transformer_of(empty)).blocks[1]
        for part in (*block.reads, block.out):
            part.weight.zero_()
        for part in block.reads:
            part.bias.zero_()
    before = vectors(empty)
    assert compact(empty) == 3
    np.testing.assert_allclose(vectors(empty), before, atol=1e-5)


@pytest.mark.parametrize("family", ["MPNet", "ModernBert", "Albert", "XLM"])
def test_other_families_have_nothing_to_take_out(family: str) -> None:
    module = torch.nn.Module()
    module.auto_model = random_transformer(family)
    assert compact([module]) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("frozen", [True, False])
def test_training_does_not_bring_heads_back(student: SentenceTransformer, frozen: bool) -> None:
    pruned = prune(student, TEXTS, heads=2)
    before, vectors_before = zero_heads(pruned), vectors(pruned)
    if frozen:
        assert freeze_pruned(pruned) == 8
    optimizer = torch.optim.AdamW(pruned.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(2):
        features = pruned.tokenizer(TEXTS[:8], padding=True, return_tensors="pt")
        # A term that reaches the weights themselves: through the zeros of its other weights a head has no slope.
        reached = sum((value - 1).square().sum() for value in pruned.parameters())
        loss = pruned(dict(features))["sentence_embedding"].sum() + 0.01 * reached
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (zero_heads(pruned) == before) is frozen
    assert np.abs(vectors(pruned) - vectors_before).max() > 1e-3  # it did train


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "distil.heads = 5: must be 1 to 4, what a layer of the student has"),
        ({"heads": 0}, "distil.heads = 0: must be 1 to 4, what a layer of the student has"),
        ({"feed_forward": 65}, "distil.feed_forward = 65: must be 1 to 64, what a layer of the student has"),
    ],
)
def test_numbers_that_a_student_does_not_have(
    student: SentenceTransformer, options: dict[str, int], message: str
) -> None:
    assert fault(RecipeError, lambda: prune(student, TEXTS, **options)) == message  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("ModernBert", "modernbert: its layers normalize what they read; heads are as many as the teacher's"),
        ("DebertaV2", "deberta-v2: its relative positions are as wide as its states"),
    ],
)
def test_heads_that_must_stay(family: str, reason: str, tmp_path: Path) -> None:
    options = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]} if family == "DebertaV2" else {}
    model = random_encoder(family, tokenizer(), tmp_path / "model", **options)
    assert fault(ModelError, lambda: prune(model, TEXTS, heads=1)) == f"{reason}: heads = 1 must be left out"


@pytest.mark.parametrize("family", ["ModernBert", "NomicBert", "T5"])
def test_a_gated_neuron_goes_with_its_gate(family: str, tmp_path: Path) -> None:
    options = {"feed_forward_proj": "gated-gelu", "pad_token_id": 0} if family == "T5" else {}
    model = random_encoder(family, tokenizer(), tmp_path / "model", **options)
    dead = [3, 4, 11, 20, 31]
    with torch.no_grad():
        for block in find_parts(transformer_of(model)).blocks:
            for feed in block.feeds:  # as important as any, by what they hold
                feed.weight[block.feed_rows(feed, torch.tensor(dead))] *= 2
            block.down.weight[:, dead] = 0
    pruned = prune(model, TEXTS, feed_forward=32 - len(dead))
    np.testing.assert_allclose(vectors(pruned), vectors(model), atol=1e-5)
    folder = saved(pruned, tmp_path / "pruned")
    np.testing.assert_allclose(vectors(open_model(folder)), vectors(pruned), atol=1e-6)
    for block in find_parts(transformer_of(open_model(folder))).blocks:
        assert sum(feed.out_features for feed in block.feeds) == 2 * block.neurons == 54


def test_heads_that_share_a_bias_are_kept(tmp_path: Path) -> None:
    model = random_encoder("MPNet", tokenizer(), tmp_path / "model")
    message = "mpnet: its layers share a bias a head: heads = 1 must be left out"
    assert fault(ModelError, lambda: prune(model, TEXTS, heads=1)) == message
    pruned = prune(model, TEXTS, feed_forward=24)
    assert {block.neurons for block in find_parts(transformer_of(pruned)).blocks} == {24}


def test_the_exported_graph_is_smaller_fused_and_equal(student: SentenceTransformer, tmp_path: Path) -> None:
    pruned = prune(student, TEXTS, heads=3, feed_forward=24)
    folder, exported, fused = saved(pruned, tmp_path / "pruned"), tmp_path / "exported", tmp_path / "fused"
    for made in (exported, fused):
        made.mkdir()
    draft = Draft(exported)
    Export().run(folder, draft)
    Optimise().run(exported, Draft(fused))
    assert draft.figures["heads_removed"] == 4
    attention = [node for node in onnx.load(fused / GRAPH).graph.node if node.op_type == "Attention"]
    stated = [a.i for node in attention for a in node.attribute if a.name == "num_heads"]
    assert stated == [3] * 4
    for made in (exported, fused):
        np.testing.assert_allclose(OnnxEncoder(made).encode(HELDOUT), vectors(pruned), atol=1e-5)
