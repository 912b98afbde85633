"""A narrow table with a product behind it: near the wide one before training, and a model that everything loads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import sentences
from families import random_encoder
from graphs import make_artifacts, words
from sentence_transformers import SentenceTransformer

from compressor.artifact.layout import GRAPH, INTEGER_PRODUCTS
from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.words.factorized import factorize
from compressor.distil.training.embedding import Distil
from compressor.models.agreement import cosines
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from exporters.graph.files import run_operators
from exporters.session import OnnxEncoder

TEXTS, HELDOUT = sentences(200, seed=1), sentences(60, seed=2)


@pytest.fixture(scope="module")
def teacher(tiny: Path) -> SentenceTransformer:
    return open_model(tiny)


def agreement(teacher: SentenceTransformer, student: SentenceTransformer) -> float:
    return float(cosines(TorchEncoder(teacher).encode(HELDOUT), TorchEncoder(student).encode(HELDOUT)).mean())


def test_a_wider_table_is_nearer_and_a_full_one_is_as_good_as_equal(teacher: SentenceTransformer) -> None:
    near = [agreement(teacher, factorize(teacher, TEXTS, size)) for size in (4, 8, 16, 31)]
    assert near == sorted(near)
    assert near[-1] > 0.999
    assert near[-1] - near[0] > 0.005


def test_the_fit_is_what_brings_it_near(teacher: SentenceTransformer) -> None:
    student = factorize(teacher, TEXTS, 16)
    fitted = agreement(teacher, student)
    product = transformer_of(student).embeddings_project
    with torch.no_grad():
        product.weight.copy_(product.weight[torch.randperm(32, generator=torch.Generator().manual_seed(0))])
    assert agreement(teacher, student) < fitted - 0.05


def test_layers_and_tokens_are_the_teachers(teacher: SentenceTransformer) -> None:
    before = {name: value.clone() for name, value in transformer_of(teacher).state_dict().items()}
    student = factorize(teacher, TEXTS, 8)
    narrow, after = transformer_of(student), transformer_of(teacher).state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())  # it is a copy
    assert narrow.config.model_type == "electra"
    assert narrow.embeddings.word_embeddings.weight.shape == (before["embeddings.word_embeddings.weight"].shape[0], 8)
    own = narrow.state_dict()
    layers = [name for name in own if name.startswith("encoder.")]
    assert len(layers) > 20
    assert all(torch.equal(own[name], before[name]) for name in layers)
    assert student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()


def test_it_is_saved_exported_and_quantized_as_any_model(teacher: SentenceTransformer, tmp_path: Path) -> None:
    student = factorize(teacher, TEXTS, 16)
    student.save_pretrained(str(tmp_path / "student"), create_model_card=False)
    wanted = TorchEncoder(student).encode(HELDOUT)
    np.testing.assert_allclose(TorchEncoder.load(tmp_path / "student").encode(HELDOUT), wanted, atol=1e-6)
    home = make_artifacts(tmp_path / "student", tmp_path / "made")
    np.testing.assert_allclose(OnnxEncoder(home / "fp32").encode(HELDOUT), wanted, atol=1e-5)
    layers = transformer_of(student).config.num_hidden_layers
    found = run_operators(home / "int8" / GRAPH)
    assert sum(found.get(kind, 0) for kind in INTEGER_PRODUCTS) == 4 * layers + 1
    assert cosines(wanted, OnnxEncoder(home / "int8").encode(HELDOUT)).min() > 0.99


@pytest.mark.parametrize("fields", [{"width": 16}, {"start": "copied", "vocabulary": 70, "activation": "relu"}])
def test_a_recipe_asks_for_it(fields: dict[str, Any], teacher: SentenceTransformer) -> None:
    distil = Distil(layers=1, embedding_size=8, **fields)
    distil.check(teacher)
    student = distil.make(teacher, distil.kept(teacher, TEXTS), TEXTS, TorchEncoder(teacher).encode(TEXTS))
    made = transformer_of(student)
    assert made.embeddings.word_embeddings.weight.shape == (fields.get("vocabulary", made.config.vocab_size), 8)
    assert made.embeddings_project.weight.shape == (fields.get("width", 32), 8)
    assert made.config.num_hidden_layers == 1
    assert TorchEncoder(student).encode(HELDOUT).shape == (60, 32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embedding_size": 32}, "distil.embedding_size = 32: must be 2 to 31, less than the student's width"),
        (
            {"embedding_size": 16, "width": 16},
            "distil.embedding_size = 16: must be 2 to 15, less than the student's width",
        ),
        ({"embedding_size": 8, "layers": 0}, "distil.embedding_size = 8: not with layers = 0; leave it out"),
        (
            {"embedding_size": 8, "heads": 2},
            "distil.embedding_size = 8: not with heads = 2 at the teacher's width; leave one out",
        ),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str, teacher: SentenceTransformer) -> None:
    with pytest.raises(RecipeError) as caught:
        Distil(**{"layers": 1} | fields).check(teacher)
    assert str(caught.value) == message


@pytest.mark.parametrize("family", ["DistilBert", "MPNet"])
def test_other_families_are_refused_by_name(family: str, tmp_path: Path) -> None:
    model = random_encoder(family, words(), tmp_path / "model")
    kind = transformer_of(model).config.model_type
    with pytest.raises(ModelError, match=rf"^{kind}: distil\.embedding_size = 8: of BERT alone; leave it out$"):
        Distil(layers=1, embedding_size=8).check(model)
