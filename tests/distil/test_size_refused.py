"""A student that cannot be is refused by the check of the recipe, before any of the teacher's vectors is computed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import sentences, tokenizer
from families import random_encoder, random_transformer
from sentence_transformers import SentenceTransformer

from compressor.answering.training.start import make_student
from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.layers import check_places, find_layers, keep_layers
from compressor.distil.student.size import Size
from compressor.distil.student.structure import find_parts
from compressor.models.sentence_model import open_model, transformer_of


def refused(teacher: Any, **fields: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        Size(**fields).check(teacher)
    return str(caught.value)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"feed_forward": 99_999}, "distil.feed_forward = 99999: must be 1 to 64, the teacher's"),
        (
            {"feed_forward": 99_999, "start": "copied"},
            "distil.feed_forward = 99999: must be 1 to 64, what a layer of the student has",
        ),
        ({"feed_forward": 65, "width": 16}, "distil.feed_forward = 65: must be 1 to 64, the teacher's"),
        ({"heads": 8}, "distil.heads = 8: must be 1 to 4, what a layer of the student has"),
        (
            {"heads": 2, "start": "fitted"},
            "distil.heads = 2: must be one of [4], which divide 32 into at most the teacher's 4 heads of at most its 8 "
            "units",
        ),
        (
            {"layers": (3, 0), "width": 16},
            "distil.layers = [3, 0]: must ascend in a student of another size",
        ),
        (
            {"layers": (3, 0), "start": "fitted"},
            "distil.layers = [3, 0]: must ascend in a student of another size",
        ),
    ],
)
def test_sizes_that_cannot_be(tiny: Path, fields: dict[str, Any], line: str) -> None:
    assert refused(open_model(tiny), **{"layers": 2} | fields) == line


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("tokens", [5, 100_000])
def test_vocabularies_that_cannot_be(tiny: Path, layers: int, tokens: int) -> None:
    line = refused(open_model(tiny), layers=layers, vocabulary=tokens)
    assert line.startswith(f"distil.vocabulary = {tokens}: must be ")
    assert "(special tokens and single characters) to " in line


def test_sizes_that_can_be(tiny: Path) -> None:
    teacher = open_model(tiny)
    for fields in ({"layers": (3, 0)}, {"heads": 2, "feed_forward": 64}, {"vocabulary": 60}, {"width": 16, "heads": 2}):
        Size(**{"layers": 2} | fields).check(teacher)


def test_no_layers_are_searched_for_a_static_student(tiny: Path) -> None:
    size, teacher = Size(layers=0, choice="searched"), open_model(tiny)
    size.check(teacher)
    assert size.kept(teacher, sentences(10)) == ()


def windowed(**options: Any) -> Any:
    return random_transformer("Longformer", attention_window=[4, 8, 16], **options)


def test_every_list_of_a_value_a_layer_is_cut(tmp_path: Path) -> None:
    module = torch.nn.Module()
    module.auto_model = windowed()
    student = transformer_of(keep_layers([module], (0, 2)))  # type: ignore[arg-type]
    assert student.config.attention_window == [4, 16]
    ids = torch.arange(1, 33)[None]
    student.save_pretrained(tmp_path)
    again = type(student).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).last_hidden_state, student(input_ids=ids).last_hidden_state)


def by_number(tmp_path: Path) -> SentenceTransformer:
    """Return a teacher of which every second layer is local, as its code has it by the layer's number."""
    teacher = random_encoder("Bert", tokenizer(), tmp_path / "teacher", num_hidden_layers=5)
    for number, layer in enumerate(find_layers(transformer_of(teacher))[2]):
        module: Any = layer.attention
        module.local_attention = (8, 8) if number % 2 else (-1, -1)
    return teacher


def test_layers_that_are_built_by_their_number_keep_their_kind(tmp_path: Path) -> None:
    teacher = by_number(tmp_path)
    Size(layers=(0, 3, 4)).check(teacher)
    line = "layer 4 would be layer 1, and bert builds layers by their number; there must be one of 1, 3"
    assert refused(teacher, layers=(0, 4)) == f"distil.layers = [0, 4]: {line}"
    assert refused(teacher, layers=2) == f"distil.layers = [0, 4]: {line}"
    searched = 'distil.choice = "searched": bert builds layers by their number; give distil.layers as a list'
    assert refused(teacher, layers=2, choice="searched") == searched
    with pytest.raises(RecipeError, match=r"^distil\.layers = \[0, 4\]: layer 4 would be layer 1"):
        make_student(transformer_of(teacher), (0, 4), "copied", [], 0)


@pytest.mark.parametrize(
    "family",
    [
        "Bert",
        "Roberta",
        "DistilBert",
        "MPNet",
        "Electra",
        "T5",
        "ModernBert",
        "NomicBert",
        "DebertaV2",
        "Qwen3",
        "GPT2",
    ],
)
def test_layers_of_most_families_have_any_place_behind_the_first(family: str) -> None:
    check_places((0, 2), random_transformer(family))


def test_an_encoder_that_pads_inside_itself_is_not_taken_apart() -> None:
    line = "longformer: its first layer reads [1, 16, 16] of a text of 5 tokens; only whole layers can be left out"
    with pytest.raises(ModelError) as caught:
        find_parts(windowed())
    assert str(caught.value) == line


def test_its_layers_are_copied(tmp_path: Path) -> None:
    teacher = random_encoder("Longformer", tokenizer(), tmp_path / "teacher", attention_window=4)
    size = Size(layers=2)
    size.check(teacher)
    texts = sentences(20)
    student = size.make(teacher, size.kept(teacher, texts), texts, None)
    assert len(find_layers(transformer_of(student))[2]) == 2
