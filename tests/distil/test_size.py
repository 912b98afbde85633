"""A student of every size can be asked for, and starts from what was asked."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import WORDS
from families import LAYERS, random_transformer
from sentence_transformers import SentenceTransformer
from trained import HELDOUT, TEXTS, vectors

from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.activation import take_relu
from compressor.distil.student.layers import keep_layers
from compressor.distil.training.embedding import Distil
from compressor.models.agreement import cosines
from compressor.models.sentence_model import TorchEncoder, is_static, open_model, transformer_of
from compressor.vectors.pca import pair_correlation


@pytest.fixture
def teacher(tiny: Path) -> SentenceTransformer:
    return open_model(tiny)


def made(tiny: Path, **fields: Any) -> SentenceTransformer:
    distil, teacher = Distil(**fields), open_model(tiny)
    distil.check(teacher)
    kept = () if distil.model else distil.kept(teacher, TEXTS)
    return distil.make(teacher, kept, TEXTS, vectors(tiny))


def agreement(tiny: Path, student: SentenceTransformer) -> float:
    return float(cosines(vectors(tiny, "heldout"), TorchEncoder(student).encode(HELDOUT)).mean())


def test_a_static_student(tiny: Path) -> None:
    student = made(tiny, layers=0)
    assert is_static(student)
    assert agreement(tiny, student) > 0.9


def test_a_static_student_of_fewer_words(tiny: Path) -> None:
    student = made(tiny, layers=0, vocabulary=70)
    assert is_static(student)
    assert len(student[0].embedding.weight) == len(student.tokenizer.get_vocab()) == 70
    known = set(student.tokenizer.get_vocab())
    gone = next(word for word in WORDS if word not in known and len(word) > 2)
    pieces = [token.removeprefix("##") for token in student.tokenizer.encode(gone, add_special_tokens=False).tokens]
    assert "".join(pieces) == gone, "spelt, not lost"
    assert 0.4 < agreement(tiny, student) < agreement(tiny, made(tiny, layers=0))


def test_a_narrow_student(tiny: Path) -> None:
    student = made(tiny, layers=2, width=16, heads=2, feed_forward=24)
    config = transformer_of(student).config
    sizes = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads, config.intermediate_size)
    assert sizes == (2, 16, 2, 24)
    assert agreement(tiny, student) > 0.9


def test_a_student_without_the_dense_layer_is_near_the_teacher_too(tiny: Path) -> None:
    with_dense, without = (made(tiny, layers=2, feed_forward=32, dense=dense) for dense in (True, False))
    kinds = [[type(module).__name__ for module in student] for student in (with_dense, without)]
    assert kinds == [["Transformer", "Pooling", "Dense", "Normalize"], ["Transformer", "Pooling", "Normalize"]]
    assert agreement(tiny, without) > 0.85
    assert agreement(tiny, with_dense) > agreement(tiny, without)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"width": 16}, "distil.dense = false: only a student of the teacher's width, 32; not width = 16"),
        ({"layers": 0}, "distil.dense = false: of a student of the teacher's layers; leave it out"),
    ],
)
def test_a_dense_layer_that_cannot_be_left_out(tiny: Path, fields: dict[str, Any], line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        made(tiny, dense=False, **{"layers": 2, **fields})
    assert str(caught.value) == line


def test_a_pruned_student_keeps_its_zeros(tiny: Path) -> None:
    student = made(tiny, layers=2, heads=2, feed_forward=32)
    layer = transformer_of(student).encoder.layer[0]
    heads = layer.attention.self.query.weight.detach().reshape(4, 8, 32).abs().sum((1, 2))
    assert int((heads == 0).sum()) == 2
    assert layer.intermediate.dense.out_features == 32


@pytest.mark.parametrize("start", ["fitted", "copied"])
def test_a_student_with_relu(start: Any, tiny: Path, tmp_path: Path) -> None:
    student = made(tiny, layers=4, start=start, activation="relu")
    assert transformer_of(student).config.hidden_act == "relu"
    inner: list[torch.Tensor] = []
    for layer in transformer_of(student).encoder.layer:
        layer.output.dense.register_forward_pre_hook(lambda module, inputs: inner.append(inputs[0]))
    before = TorchEncoder(student).encode(HELDOUT)
    assert all(float(x.min()) == 0.0 for x in inner)
    student.save_pretrained(str(tmp_path), create_model_card=False)
    np.testing.assert_array_equal(TorchEncoder.load(tmp_path).encode(HELDOUT), before)
    assert transformer_of(open_model(tiny)).config.hidden_act == "gelu"


def test_the_fit_makes_up_for_relu(tiny: Path) -> None:
    fitted, copied = (made(tiny, layers=4, start=start, activation="relu") for start in ("fitted", "copied"))
    assert 1 - agreement(tiny, fitted) < 0.5 * (1 - agreement(tiny, copied))


def test_a_layer_without_an_activation_is_refused(tiny: Path) -> None:
    transformer = transformer_of(open_model(tiny))
    for layer in transformer.encoder.layer:
        layer.intermediate.intermediate_act_fn = torch.nn.Identity()
    with pytest.raises(ModelError, match="bert: its layers hold no activation to put a ReLU in the place of"):
        take_relu(transformer)


@pytest.mark.parametrize("form", ["gated-gelu", "relu"])
def test_the_activation_of_t5(form: str, tmp_path: Path) -> None:
    model = random_transformer("T5", feed_forward_proj=form)
    assert take_relu(model) == (0 if form == "relu" else LAYERS)
    assert take_relu(model) == 0
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path).eval()
    inner: list[torch.Tensor] = []
    for block in again.encoder.block:
        block.layer[1].DenseReluDense.act.register_forward_hook(lambda module, inputs, output: inner.append(output))
    ids = torch.arange(1, 13)[None]
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).last_hidden_state, model(input_ids=ids).last_hidden_state)
    assert min(float(states.min()) for states in inner) == 0.0


def test_a_smaller_vocabulary(tiny: Path) -> None:
    assert len(made(tiny, layers=2, vocabulary=60).tokenizer.get_vocab()) == 60


def test_another_model_is_brought_to_the_teachers_length(tiny: Path, make_model: Any) -> None:
    student = made(tiny, model=str(make_model(layers=2, width=16)))
    assert TorchEncoder(student).encode(HELDOUT).shape == (150, 32)
    assert agreement(tiny, student) > 0.9


def test_a_fitted_start_agrees_more_than_a_copied_one(tiny: Path) -> None:
    copied, fitted, auto = (agreement(tiny, made(tiny, layers=(0, 3), start=s)) for s in ("copied", "fitted", "auto"))
    assert fitted == pytest.approx(auto, abs=1e-6)
    assert fitted > copied + 0.1


@pytest.mark.parametrize(("choice", "layers"), [("uniform", (0, 3)), ("first", (0, 1)), ("last", (2, 3))])
def test_a_choice_by_place(teacher: SentenceTransformer, choice: Any, layers: tuple[int, ...]) -> None:
    assert Distil(layers=2, choice=choice).kept(teacher, TEXTS) == layers


def test_the_searched_choice_is_the_best_of_all(teacher: SentenceTransformer) -> None:
    texts = TEXTS[:120]
    wanted = TorchEncoder(teacher).encode(texts)
    found = {
        kept: pair_correlation(wanted, TorchEncoder(keep_layers(teacher, kept)).encode(texts))
        for kept in combinations(range(4), 2)
    }
    kept = Distil(layers=2, choice="searched").kept(teacher, texts)
    assert found[kept] == max(found.values()) > min(found.values()) + 0.02
    np.testing.assert_array_equal(TorchEncoder(teacher).encode(texts), wanted)  # it is left as it was


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layers": 5}, "distil.layers = 5: must be 0 to 4, the teacher's layers"),
        ({"layers": (0, 4)}, "distil.layers = [0, 4]: layer 4 is not in 0..3"),
        ({"dim": 33}, "distil.dim = 33: must be at most 32, the length of the teacher's vectors"),
        ({"layers": 0, "width": 8}, "distil.width = 8: not with layers = 0; leave it out"),
        ({"model": "a", "heads": 2}, "distil.heads = 2: not with model = a; leave it out"),
        ({"layers": 0, "feed_forward": 8}, "distil.feed_forward = 8: not with layers = 0; leave it out"),
        ({"model": "a", "vocabulary": 9}, "distil.vocabulary = 9: not with model = a; leave it out"),
    ],
)
def test_sizes_that_cannot_be(teacher: SentenceTransformer, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Distil(**fields).check(teacher)
    assert str(caught.value) == message
