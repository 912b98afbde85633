"""A student is some of its teacher's layers, in the order asked for, and says so in its config."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import sentences, tokenizer
from families import LAYERS, random_encoder, random_transformer
from sentence_transformers import SentenceTransformer

from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.layers import find_layers, keep_layers, restack, spread_layers
from compressor.distil.student.search import search_layers
from compressor.distil.student.size import Size
from compressor.distil.student.structure import find_parts
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.models.source import check_folder

TEXTS = sentences(12)


@pytest.fixture(scope="module")
def teacher(tiny: Path) -> SentenceTransformer:
    return open_model(tiny)


def weights_of(layer: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in layer.state_dict().values()])


def saved(student: SentenceTransformer, folder: Path) -> Path:
    student.save_pretrained(str(folder), create_model_card=False)
    return folder


def fault(kind: type[Exception], teacher: SentenceTransformer, layers: tuple[int, ...]) -> str:
    with pytest.raises(kind) as caught:
        keep_layers(teacher, layers)
    return str(caught.value)


@pytest.mark.parametrize("layers", [(0, 1, 3), (2,), (3, 0), (0, 1, 2, 3)])
def test_kept_layers_are_the_teachers_in_the_order_given(teacher: SentenceTransformer, layers: tuple[int, ...]) -> None:
    student = keep_layers(teacher, layers)
    theirs, ours = transformer_of(teacher).encoder.layer, transformer_of(student).encoder.layer
    assert len(ours) == transformer_of(student).config.num_hidden_layers == len(layers)
    assert all(weights_of(layer).equal(weights_of(theirs[i])) for layer, i in zip(ours, layers, strict=True))
    assert len({weights_of(layer).sum().item() for layer in theirs}) == 4  # all different, so order shows
    embeddings = [transformer_of(m).embeddings.word_embeddings.weight for m in (teacher, student)]
    assert embeddings[0].equal(embeddings[1])


def test_the_teacher_is_left_as_it_was(teacher: SentenceTransformer) -> None:
    before = TorchEncoder(teacher).encode(TEXTS)
    student = keep_layers(teacher, (0, 2))
    with torch.no_grad():
        for value in student.parameters():
            value.zero_()
    assert transformer_of(teacher).config.num_hidden_layers == len(transformer_of(teacher).encoder.layer) == 4
    np.testing.assert_array_equal(TorchEncoder(teacher).encode(TEXTS), before)


def test_all_layers_make_the_teacher_and_fewer_do_not(teacher: SentenceTransformer) -> None:
    vectors = TorchEncoder(teacher).encode(TEXTS)
    np.testing.assert_array_equal(TorchEncoder(keep_layers(teacher, (0, 1, 2, 3))).encode(TEXTS), vectors)
    for layers in [(0, 1, 2), (1, 0, 2, 3)]:
        assert np.abs(TorchEncoder(keep_layers(teacher, layers)).encode(TEXTS) - vectors).max() > 0.01


@pytest.mark.parametrize("options", [{}, {"pooling": "cls"}, {"pooling": "max", "normalize": False}, {"dense": 16}])
def test_a_saved_student_gives_the_same_vectors(
    make_model: Callable[..., Path], options: dict[str, object], tmp_path: Path
) -> None:
    student = keep_layers(open_model(make_model(**options)), (0, 3))
    folder = saved(student, tmp_path / "student")
    check_folder(folder)
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    np.testing.assert_array_equal(TorchEncoder.load(folder).encode(TEXTS), TorchEncoder(student).encode(TEXTS))


def test_a_student_that_states_its_teachers_depth_is_caught(teacher: SentenceTransformer, tmp_path: Path) -> None:
    folder = saved(keep_layers(teacher, (0, 2)), tmp_path / "student")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    # What would come of it: no error, and two layers of noise.
    assert len(transformer_of(SentenceTransformer(str(folder), device="cpu")).encoder.layer) == 4
    for opening in (check_folder, open_model, TorchEncoder.load):
        with pytest.raises(ModelError) as caught:
            opening(folder)
        assert str(caught.value) == f"{folder}: config.json says 4 layers, the weights hold 2"


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((0, 4), "distil.layers = [0, 4]: layer 4 is not in 0..3"),
        ((-1, 9), "distil.layers = [-1, 9]: layer -1 is not in 0..3"),
        ((1, 2, 1), "distil.layers = [1, 2, 1]: a layer is repeated"),
        ((), "distil.layers = []: keep at least one layer"),
    ],
)
def test_layers_that_cannot_be_kept(teacher: SentenceTransformer, layers: tuple[int, ...], message: str) -> None:
    assert fault(RecipeError, teacher, layers) == message


@pytest.mark.parametrize(
    ("family", "where"),
    [
        ("Bert", "encoder.layer"),
        ("Roberta", "encoder.layer"),
        ("XLMRoberta", "encoder.layer"),
        ("DistilBert", "transformer.layer"),
        ("MPNet", "encoder.layer"),
        ("Electra", "encoder.layer"),
        ("ModernBert", "layers"),
        ("NomicBert", "layers"),
    ],
)
def test_families(family: str, where: str, tmp_path: Path) -> None:
    """Cut to two layers, each runs, saves, and loads from its own config with the same result."""
    model = random_transformer(family)
    kept = [weights_of(layer) for layer in model.get_submodule(where)]
    parent, name, stack = find_layers(model)
    assert model.get_submodule(where) is stack is getattr(parent, name)
    assert len(stack) == LAYERS
    inputs = {"input_ids": torch.arange(1, 15).reshape(2, 7), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    with torch.no_grad():
        before = model(**inputs).last_hidden_state
        student = transformer_of(keep_layers([wrapped(model)], (0, 2)))  # type: ignore[arg-type]
        after = student(**inputs).last_hidden_state
        student.save_pretrained(tmp_path)
        again = type(model).from_pretrained(tmp_path).eval()(**inputs).last_hidden_state
    assert student.config.num_hidden_layers == 2
    assert all(weights_of(layer).equal(kept[i]) for layer, i in zip(find_layers(student)[2], (0, 2), strict=True))
    assert (after - before).abs().max() > 1e-3
    assert torch.equal(again, after)


def wrapped(model: torch.nn.Module) -> torch.nn.Module:
    """Put a transformer where ``transformer_of`` looks for it."""
    module = torch.nn.Module()
    module.auto_model = model
    return module


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("Albert", "albert: no stack of 3 layers of its own weights to keep layers of"),
        ("XLM", "xlm: no stack of 3 layers of its own weights to keep layers of"),  # four lists of parts of layers
    ],
)
def test_families_without_a_stack_of_layers(family: str, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_layers(random_transformer(family))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("count", "depth", "choice", "layers"),
    [(3, 6, "uniform", (0, 2, 5)), (1, 6, "uniform", (0,)), (4, 4, "uniform", (0, 1, 2, 3)),
     (2, 6, "first", (0, 1)), (2, 6, "last", (4, 5))],
)  # fmt: skip
def test_layers_are_spread(count: int, depth: int, choice: Any, layers: tuple[int, ...]) -> None:
    assert spread_layers(count, depth, choice) == layers


def test_a_stack_can_be_given_again_and_again(tiny: Path) -> None:
    transformer = transformer_of(open_model(tiny))
    stack = list(restack(transformer, None))
    for numbers in [(0, 2), (3,), (0, 1, 2, 3)]:
        made = restack(transformer, [(i, stack[i]) for i in numbers])
        assert [layer is stack[i] for layer, i in zip(made, numbers, strict=True)] == [True] * len(numbers)
        assert transformer.config.num_hidden_layers == len(find_layers(transformer)[2]) == len(numbers)


@pytest.mark.parametrize("family", ["T5", "ModernBert"])
def test_a_first_layer_unlike_the_others_stays_the_first(family: str) -> None:
    model = random_transformer(family)
    teacher: Any = [wrapped(model)]
    assert len(find_layers(transformer_of(keep_layers(teacher, (0, 2))))[2]) == 2
    message = f"distil.layers = [1, 2]: must begin with 0, which {model.config.model_type} builds unlike the others"
    with pytest.raises(RecipeError) as caught:
        keep_layers(teacher, (1, 2))
    assert str(caught.value) == message
    for size in (Size(layers=(1, 2)), Size(layers=2, choice="last")):
        with pytest.raises(RecipeError) as caught:
            size.check(teacher)
        assert str(caught.value) == message


def test_a_searched_choice_keeps_it_too(tmp_path: Path) -> None:
    teacher = random_encoder("ModernBert", tokenizer(), tmp_path / "teacher")
    first = find_parts(transformer_of(teacher)).blocks[0]
    with torch.no_grad():
        for part in (first.out, first.down):  # of all layers the one that is missed least
            part.weight.zero_()
    assert search_layers(teacher, 2, TEXTS)[0] == 0
