"""Training moves a student to its teacher, saves what it trained, and says what it did."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import sentences
from families import random_transformer
from trained import FIELDS, TEXTS, Trained, same, vectors

from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.layers import keep_layers
from compressor.distil.training import train as training
from compressor.distil.training.embedding import Distil, save_student
from compressor.distil.training.lessons import Part
from compressor.models.agreement import cosines
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.untrusted.weights import read_header


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained")).run(tiny)


@pytest.fixture
def student(tiny: Path) -> Any:
    return keep_layers(open_model(tiny), (0, 3))


def test_training_moves_the_student_to_its_teacher(tiny: Path, student: Any, trained: Trained) -> None:
    before = TorchEncoder(student).encode(sentences(150, seed=9))
    assert cosines(vectors(tiny, "heldout"), before).mean() < 0.5
    assert trained.cosine(tiny) > 0.95
    assert np.abs(np.linalg.norm(trained.encode(), axis=1) - 1).max() < 1e-5


def test_the_saved_student(tiny: Path, trained: Trained) -> None:
    folder = trained.draft.folder
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    assert sum(".output.dense.weight" in name for name in read_header(folder / "model.safetensors")) == 4
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert open_model(folder).max_seq_length == open_model(tiny).max_seq_length == 64
    figures = dict(trained.draft.figures)
    assert figures.pop("train_seconds") > 0
    cut = figures.pop("cut_share")
    assert figures.pop("lengths") == {"cut_at": 12, "p99": 12, "limit": 64}
    assert figures == {"layers": [0, 3], "steps": 38, "texts_seen": 608, "resumed_at_step": 0}
    lengths = np.array([len(ids) for ids in open_model(tiny).tokenizer(TEXTS)["input_ids"]])
    assert cut == pytest.approx((lengths >= 12).mean())


def test_texts_are_cut_in_training_only(trained: Trained) -> None:
    assert max(trained.widths) == 12
    assert min(trained.widths) < 12  # and little is padded


def test_a_student_may_learn_from_more_texts(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    """Further texts come with teacher vectors of their own, here those of other texts."""
    more, rows = sentences(304, seed=4), np.arange(304)[::-1].copy()
    options = {"more": [Part(more, vectors(tiny), rows)], "share": None}
    made = Trained(tmp_path).run(tiny, epochs=3.0, options=options)
    assert sorted({i for batch in made.rows[:38] for i in batch}) == list(range(608))
    wanted = vectors(tiny)[rows]
    near = [float(cosines(wanted, one.encode(more)).mean()) for one in (made, trained)]
    assert 1 - near[0] < 1 - near[1] - 1e-4


def test_a_share_of_the_texts(tiny: Path, tmp_path: Path) -> None:
    options = {"more": [Part(TEXTS[:50], vectors(tiny), share=0.75)], "share": 0.25}
    made = Trained(tmp_path).run(tiny, epochs=1.0, options=options)
    assert sum(i < 304 for batch in made.rows for i in batch) / sum(map(len, made.rows)) == pytest.approx(
        0.25, abs=0.01
    )


def test_the_student_is_made_of_a_prepared_teacher(tiny: Path, tmp_path: Path) -> None:
    def emptied(model: Any) -> Any:
        transformer_of(model).embeddings.word_embeddings.weight.data[-1] = 7.0
        return model

    made = Trained(tmp_path).run(tiny, epochs=0.2, options={"prepare": emptied}).weights
    assert made["embeddings.word_embeddings.weight"][-1].mean() == pytest.approx(7.0, abs=0.1)


def test_shorter_vectors_lie_in_the_teachers_components(tiny: Path, tmp_path: Path) -> None:
    made = Trained(tmp_path).run(tiny, dim=8)
    projection = Projection.load(made.draft.folder)
    assert projection.components.shape == (8, 32)
    lifted = projection.lift(made.encode())
    assert made.encode().shape == (150, 8)
    assert cosines(vectors(tiny, "heldout"), lifted).mean() > 0.95


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mse": 0.0}, "distil.mse = 0 with no other loss: give at least one of them weight"),
        (
            {"layers": 0, "embedding_learning_rate": 0},
            "distil.embedding_learning_rate = 0: a static student is nothing but its vocabulary",
        ),
        ({"matryoshka": (8, 32)}, "distil.matryoshka = [8, 32]: 32 is no prefix of 32"),
        ({"matryoshka": (8,), "dim": 8}, "distil.matryoshka = [8]: 8 is no prefix of 8"),
        (
            {"batch_size": 10, "accumulate": 4},
            "distil.batch_size = 10: must be a multiple of 4, 1 processes times accumulate = 4",
        ),
    ],
)
def test_what_cannot_be_taught(tiny: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Distil(**FIELDS | fields).check(open_model(tiny))
    assert str(caught.value) == message


def test_what_can_be_taught(tiny: Path) -> None:
    Distil(**FIELDS | {"mse": (0.0, 1.0), "matryoshka": (4, 8), "accumulate": 4}).check(open_model(tiny))


@pytest.mark.parametrize(
    "family", ["Bert", "Roberta", "XLMRoberta", "DistilBert", "MPNet", "Electra", "T5", "Longformer"]
)
def test_dropout_is_off_in_attention_too(family: str) -> None:
    model = random_transformer(family).train()
    ids = torch.arange(1, 15).reshape(2, 7)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert not model(**inputs).last_hidden_state.equal(model(**inputs).last_hidden_state)
    training._without_dropout(model)
    assert model(**inputs).last_hidden_state.equal(model(**inputs).last_hidden_state)


def test_bf16_training_gives_an_fp32_student(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    half = Trained(tmp_path).run(tiny, precision="bf16")
    assert {value.dtype for value in half.weights.values()} == {torch.float32}
    assert not same(half.weights, trained.weights)
    assert half.cosine(tiny) > 0.95


def test_nothing_is_said_on_stdout(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Trained(tmp_path).run(tiny, epochs=0.3, checkpoint_steps=2)
    assert capfd.readouterr().out == ""


def test_a_student_that_states_its_teachers_depth_is_not_saved(student: Any, tmp_path: Path) -> None:
    save_student(student, tmp_path / "right", TEXTS[:8])
    transformer_of(student).config.num_hidden_layers = 4
    with pytest.raises(ModelError) as caught:
        save_student(student, tmp_path / "wrong", TEXTS[:8])
    assert str(caught.value) == f"{tmp_path / 'wrong'}: config.json says 4 layers, the weights hold 2"


def test_a_student_that_loads_otherwise_is_not_saved(
    student: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where layers cannot be counted by name, weights that are missing tell."""
    monkeypatch.setattr("compressor.models.sentence_model.check_folder", lambda folder: None)
    transformer_of(student).config.num_hidden_layers = 4
    with pytest.raises(ModelError, match=r"wrong: weights are missing: encoder\.layer\.2\."):
        save_student(student, tmp_path / "wrong", TEXTS[:8])


def test_a_run_ends_with_that_check(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Distil, student: Any, *rest: Any) -> dict[str, Any]:
        transformer_of(student).config.num_hidden_layers = 4
        return {}

    monkeypatch.setattr(Distil, "train", forgetful)
    with pytest.raises(ModelError, match=r"student: config\.json says 4 layers, the weights hold 2$"):
        Trained(tmp_path).run(tiny)
