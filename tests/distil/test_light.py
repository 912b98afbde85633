"""A light student is near its teacher before any training, and its folder says what it is."""

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
from families import random_decoder, random_encoder
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ModelError, RecipeError, TextError
from compressor.distil.student.fit.encoder import fit_encoder
from compressor.distil.student.importance import Importance
from compressor.distil.student.layers import keep_layers
from compressor.distil.student.light import shrink, with_projection
from compressor.distil.student.prune import narrow_feed_forward, prune
from compressor.distil.student.sample import sample_batches
from compressor.distil.student.size import Size
from compressor.distil.student.structure import find_parts
from compressor.models.agreement import cosines, neighbours_in_common
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.models.source import check_folder, find_student
from compressor.untrusted.weights import INDEX
from exporters.graph.export import Export
from exporters.graph.optimise import Optimise
from exporters.session import OnnxEncoder

TEXTS, HELDOUT = sentences(200), sentences(100, seed=1)
ALL = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def teacher(tiny: Path) -> SentenceTransformer:
    """Return the tiny teacher with states of fewer directions than units, as those of trained models are."""
    model = open_model(tiny)
    transformer = transformer_of(model)
    turn = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))[0]
    few = turn * torch.logspace(0, -2, 32)
    with torch.no_grad():
        for layer in transformer.encoder.layer:
            for part in (layer.attention.output.dense, layer.output.dense):
                part.weight.copy_(few @ part.weight)
        table = transformer.embeddings.word_embeddings.weight
        table.copy_(table @ few.T)
    return model


@pytest.fixture(scope="module")
def student(teacher: SentenceTransformer) -> SentenceTransformer:
    return shrink(teacher, TEXTS, layers=ALL, width=16)


def vectors(model: SentenceTransformer, texts: list[str] = HELDOUT) -> np.ndarray[Any, Any]:
    return TorchEncoder(model).encode(texts)


def fault(kind: type[Exception], call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def distance(model: SentenceTransformer, teacher: SentenceTransformer) -> float:
    return float(1 - cosines(vectors(model), vectors(teacher)).mean())


def saved(model: SentenceTransformer, folder: Path) -> Path:
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def randomized(student: SentenceTransformer) -> SentenceTransformer:
    """Return an encoder of the student's size and pooling with random weights, without a projection."""
    made = copy.deepcopy(SentenceTransformer(modules=list(student)[:2], device="cpu"))
    torch.manual_seed(0)
    transformer = transformer_of(made)
    transformer.load_state_dict(type(transformer)(transformer.config).state_dict())
    return made


def test_a_student_of_the_teachers_size_is_the_teacher(teacher: SentenceTransformer) -> None:
    same = shrink(teacher, TEXTS[:40], layers=ALL)  # fewer texts than would fit any weight
    np.testing.assert_allclose(vectors(same), vectors(teacher), atol=1e-4)


def test_a_narrow_student_is_near_the_teacher_before_training(
    teacher: SentenceTransformer, student: SentenceTransformer
) -> None:
    control = with_projection(randomized(student), TEXTS, vectors(teacher, TEXTS))
    assert vectors(student).shape == vectors(control).shape == vectors(teacher).shape
    assert distance(student, teacher) < 0.3 * distance(control, teacher)
    kept = [neighbours_in_common(vectors(model), vectors(teacher)) for model in (student, control)]
    assert kept[0] > kept[1] + 0.25


def test_each_layer_counts_and_the_fit_makes_up_for_those_left_out(teacher: SentenceTransformer) -> None:
    student = shrink(teacher, TEXTS, layers=(0, 2))
    assert len(find_parts(transformer_of(student)).blocks) == transformer_of(student).config.num_hidden_layers == 2
    assert distance(student, teacher) < 0.5 * distance(keep_layers(teacher, (0, 2)), teacher)


@pytest.mark.parametrize("options", [{"heads": 4}, {"feed_forward": 48}, {"width": 24, "heads": 3}])
def test_other_sizes_are_near_the_teacher_too(teacher: SentenceTransformer, options: dict[str, int]) -> None:
    student = shrink(teacher, TEXTS, layers=ALL, **{"width": 16} | options)
    parts = find_parts(transformer_of(student))
    assert parts.heads(0) == options.get("heads", 2)
    assert parts.blocks[0].neurons == options.get("feed_forward", 2 * parts.width)
    assert distance(student, teacher) < 0.02


@pytest.mark.parametrize("options", [{}, {"pooling": "cls"}, {"pooling": "max", "normalize": False}, {"dense": 16}])
def test_a_saved_student_gives_the_same_vectors(
    make_model: Callable[..., Path], options: dict[str, Any], tmp_path: Path
) -> None:
    student = shrink(open_model(make_model(**options)), TEXTS[:50], layers=(0, 3), width=16)
    folder = saved(student, tmp_path / "student")
    check_folder(folder)
    stated = json.loads((folder / "config.json").read_text())
    sizes = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")
    assert [stated[name] for name in sizes] == [16, 2, 32, 2]
    plain = SentenceTransformer(str(folder), device="cpu").encode(HELDOUT, show_progress_bar=False)
    np.testing.assert_allclose(plain, vectors(student), atol=1e-6)


FEW = TEXTS[:80]
NARROWED = ["Bert", "Roberta", "XLMRoberta", "DistilBert", "Electra", "MPNet", "NomicBert", "Gte"]
OWN: dict[str, dict[str, Any]] = {
    "Electra": {"embedding_size": 12},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm"}
    | {"share_att_key": True, "position_buckets": 8, "position_biased_input": False},
    "EuroBert": {f"{token}_token_id": 0 for token in ("pad", "bos", "eos", "mask")},
    "T5": {"pad_token_id": 0, "feed_forward_proj": "gated-gelu"},
}


@pytest.mark.parametrize("family", [*NARROWED, "ModernBert", "EuroBert", "T5", "DebertaV2", "Qwen3"])
def test_families(family: str, tmp_path: Path) -> None:
    """All layers fitted are the teacher; some layers, or some neurons, are nearer to it than copies of them."""
    if family == "Qwen3":
        teacher = open_model(random_decoder(family, tokenizer(), tmp_path / "teacher"))
    else:
        teacher = random_encoder(family, tokenizer(), tmp_path / "teacher", **OWN.get(family, {}))
    enlarge(teacher)
    np.testing.assert_allclose(vectors(shrink(teacher, FEW[:20], layers=(0, 1, 2))), vectors(teacher), atol=1e-4)
    fewer = shrink(teacher, FEW, layers=(0, 2), dense=False)
    assert distance(fewer, teacher) < 0.6 * distance(keep_layers(teacher, (0, 2)), teacher)
    pruned = shrink(teacher, FEW, layers=(0, 1, 2), feed_forward=24, dense=False)
    assert distance(pruned, teacher) < 0.7 * distance(prune(teacher, FEW, feed_forward=24), teacher)
    again = open_model(saved(pruned, tmp_path / "student"))
    assert {block.neurons for block in find_parts(transformer_of(again)).blocks} == {24}
    np.testing.assert_allclose(vectors(again), vectors(pruned), atol=1e-6)


@pytest.mark.parametrize("family", NARROWED)
def test_narrow_families(family: str, tmp_path: Path) -> None:
    teacher = random_encoder(family, tokenizer(), tmp_path / "teacher", **OWN.get(family, {}))
    student = shrink(teacher, TEXTS, layers=(0, 1, 2), width=8)
    control = with_projection(randomized(student), TEXTS, vectors(teacher, TEXTS))
    assert distance(student, teacher) < 0.6 * distance(control, teacher)
    again = open_model(saved(student, tmp_path / "student"))
    np.testing.assert_allclose(vectors(again), vectors(student), atol=1e-6)


@pytest.mark.parametrize(("family", "size"), [("ModernBert", {"feed_forward": 24}), ("NomicBert", {"width": 8})])
def test_a_student_with_gates_is_exported(family: str, size: dict[str, int], tmp_path: Path) -> None:
    teacher = random_encoder(family, tokenizer(), tmp_path / "teacher")
    enlarge(teacher)
    student = shrink(teacher, FEW, layers=(0, 2), **size)  # type: ignore[arg-type]
    for name in ("exported", "optimised"):
        (tmp_path / name).mkdir()
    Export().run(saved(student, tmp_path / "student"), Draft(tmp_path / "exported"))
    Optimise().run(tmp_path / "exported", Draft(tmp_path / "optimised"))
    for name in ("exported", "optimised"):
        np.testing.assert_allclose(OnnxEncoder(tmp_path / name).encode(HELDOUT), vectors(student), atol=1e-5)
    graph = onnx.load(tmp_path / "optimised" / GRAPH).graph
    kinds = [node.op_type for node in graph.node]
    assert sum(kinds.count(kind) for kind in ("Attention", "MultiHeadAttention")) == 2


def test_neurons_that_are_there_twice_are_not_missed(tmp_path: Path) -> None:
    """Of two alike, one goes; the other writes for both."""
    teacher = random_encoder("ModernBert", tokenizer(), tmp_path / "teacher")
    enlarge(teacher)
    with torch.no_grad():
        for block in find_parts(transformer_of(teacher)).blocks:
            for feed in block.feeds:
                feed.weight[block.feed_rows(feed, torch.arange(16, 32))] = feed.weight[
                    block.feed_rows(feed, torch.arange(16))
                ]
    costs = Importance([torch.ones(2)] * 3, [torch.arange(32, 0, -1.0)] * 3)  # the first of each pair stays
    student = keep_layers(teacher, (0, 1, 2))
    for block in find_parts(transformer_of(student)).blocks:
        narrow_feed_forward(block, torch.arange(16))
    copied = distance(student, teacher)
    fit_encoder(transformer_of(teacher), transformer_of(student), (0, 1, 2), costs, sample_batches(teacher, FEW))
    assert distance(student, teacher) < 0.01 * copied


def enlarge(model: SentenceTransformer) -> None:
    """Scale what a random model's layers add, next to nothing beside its embeddings, to what trained ones add."""
    with torch.no_grad():
        for block in find_parts(transformer_of(model)).blocks:
            for part in (*block.reads, block.out, *block.feeds, block.down):
                part.weight *= 0.2 / part.weight.std()


def test_layers_that_share_a_bias_keep_their_heads(tmp_path: Path) -> None:
    teacher = random_encoder("MPNet", tokenizer(), tmp_path / "teacher")
    [bias] = find_parts(transformer_of(teacher)).biases
    torch.nn.init.normal_(bias.weight)
    student = shrink(teacher, TEXTS, layers=(0, 1, 2), width=8)
    parts = find_parts(transformer_of(student))
    assert (parts.width, parts.heads(0), parts.head_size) == (8, 2, 4)
    assert torch.equal(parts.biases[0].weight, bias.weight)
    control = with_projection(randomized(student), TEXTS, vectors(teacher, TEXTS))
    assert distance(student, teacher) < 0.6 * distance(control, teacher)
    message = "mpnet: its layers share a bias a head: heads = 1 must be left out"
    assert fault(ModelError, lambda: shrink(teacher, TEXTS[:20], layers=(0,), width=8, heads=1)) == message
    assert fault(ModelError, lambda: Size(heads=1).check(teacher)) == message
    message = "distil.width = 9: cannot be divided into the teacher's 2 heads of at most its 8 units"
    assert fault(RecipeError, lambda: shrink(teacher, TEXTS[:20], layers=(0,), width=9)) == message


def test_rotary_heads_keep_their_size(tmp_path: Path) -> None:
    teacher = random_encoder("NomicBert", tokenizer(), tmp_path / "teacher")
    parts = find_parts(transformer_of(shrink(teacher, TEXTS[:20], layers=(0,), width=8)))
    assert (parts.width, parts.heads(0), parts.head_size) == (8, 1, 8)
    message = "distil.width = 12: cannot be divided into at most the teacher's 2 heads of its 8 units"
    assert fault(RecipeError, lambda: shrink(teacher, TEXTS[:20], layers=(0,), width=12)) == message


def test_tables_of_another_width_stay(tmp_path: Path) -> None:
    teacher = random_encoder("Electra", tokenizer(), tmp_path / "teacher", embedding_size=12)
    student = transformer_of(shrink(teacher, TEXTS[:20], layers=(0, 1, 2), width=8))
    assert torch.equal(
        student.embeddings.word_embeddings.weight, transformer_of(teacher).embeddings.word_embeddings.weight
    )
    assert (student.config.embedding_size, student.config.hidden_size) == (12, 8)
    message = "distil.width = 12: the width of the tables of electra; must be another"
    assert fault(RecipeError, lambda: shrink(teacher, TEXTS[:20], layers=(0,), width=12)) == message
    assert fault(RecipeError, lambda: Size(width=12).check(teacher)) == message


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("T5", "t5: its layers normalize what they read; states are as wide as the teacher's"),
        ("ModernBert", "modernbert: its layers normalize what they read; states are as wide as the teacher's"),
    ],
)
def test_states_that_must_stay_as_wide(family: str, reason: str, tmp_path: Path) -> None:
    teacher = random_encoder(family, tokenizer(), tmp_path / "teacher", **OWN.get(family, {}))
    message = f"{reason}: width = 8 must be left out"
    assert fault(ModelError, lambda: shrink(teacher, TEXTS[:20], layers=(0,), width=8)) == message
    assert fault(ModelError, lambda: Size(width=8).check(teacher)) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 33}, "distil.width = 33: must be 1 to 32, the teacher's"),
        (
            {"width": 16, "heads": 3},
            "distil.heads = 3: must be one of [2, 4], which divide 16 into at most the teacher's 4 heads of at most "
            "its 8 units",
        ),
        (
            {"width": 31},
            "distil.width = 31: cannot be divided into at most the teacher's 4 heads of at most its 8 units",
        ),
        ({"feed_forward": 65}, "distil.feed_forward = 65: must be 1 to 64, the teacher's"),
        ({"layers": (3, 0)}, "distil.layers = [3, 0]: must ascend in a student of another size"),
        ({"layers": (4,)}, "distil.layers = [4]: layer 4 is not in 0..3"),
    ],
)
def test_sizes_that_cannot_be(teacher: SentenceTransformer, options: dict[str, Any], message: str) -> None:
    assert fault(RecipeError, lambda: shrink(teacher, TEXTS[:20], **{"layers": ALL} | options)) == message


def test_the_teacher_is_left_as_it_was(teacher: SentenceTransformer) -> None:
    before = vectors(teacher)
    student = shrink(teacher, TEXTS[:40], layers=(0, 1), width=16, vocabulary=80)
    with torch.no_grad():
        for value in student.parameters():
            value.zero_()
    np.testing.assert_array_equal(vectors(teacher), before)
    assert transformer_of(teacher).config.vocab_size == len(tokenizer())


def test_a_student_with_a_trimmed_vocabulary_is_fitted_with_it(teacher: SentenceTransformer, tmp_path: Path) -> None:
    student = shrink(teacher, TEXTS, layers=ALL, width=16, vocabulary=90)
    again = open_model(saved(student, tmp_path / "student"))
    assert transformer_of(again).config.vocab_size == len(again.tokenizer) == 90
    np.testing.assert_allclose(vectors(again), vectors(student), atol=1e-6)
    assert distance(student, teacher) < 0.05


def test_a_student_by_name(tiny: Path, tmp_path: Path) -> None:
    teacher = open_model(tiny)
    np.testing.assert_array_equal(vectors(open_model(find_student(tiny.name, tiny.parent).folder)), vectors(teacher))
    plain = tmp_path / "plain"
    transformer_of(teacher).save_pretrained(plain)
    teacher.tokenizer.save_pretrained(plain)
    opened = open_model(find_student(str(plain)).folder)
    ours = vectors(opened)
    np.testing.assert_allclose(ours / np.linalg.norm(ours, axis=1, keepdims=True), vectors(teacher), atol=1e-5)
    assert not (plain / "modules.json").exists()  # the folder is left as it was
    assert vectors(open_model(saved(opened, tmp_path / "again"))).shape == ours.shape


def test_a_plain_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert", "hidden_size": 32}')
    message = fault(ModelError, lambda: find_student(str(tmp_path)))
    assert message == f"{tmp_path}/model.safetensors: no such file, and no {INDEX}; weights must be safetensors"


def test_a_projection_brings_vectors_to_the_teachers_length(make_model: Callable[..., Path], tmp_path: Path) -> None:
    student, teacher = open_model(make_model(width=16)), open_model(make_model(dense=24))
    wanted = vectors(student, TEXTS) @ np.random.default_rng(0).normal(size=(16, 24)).astype(np.float32)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    projected = with_projection(student, TEXTS, wanted.astype(np.float16))
    assert isinstance(projected[-2], Dense)
    assert isinstance(projected[-1], Normalize)
    assert cosines(vectors(projected, TEXTS), wanted).min() > 0.99
    again = open_model(saved(projected, tmp_path / "student"))
    np.testing.assert_allclose(vectors(again), vectors(projected), atol=1e-6)
    assert with_projection(teacher, TEXTS, wanted) is teacher
    message = fault(TextError, lambda: with_projection(student, TEXTS[:9], wanted))
    assert message == "9 texts, 200 vectors of the teacher; wanted one a text"
