"""Training moves a student to its teacher, goes on where it stopped, and saves what it trained."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import sentences
from families import random_transformer
from safetensors.torch import load_file

from compressor.agreement import cosines
from compressor.artifact import Draft
from compressor.distil import embedding
from compressor.distil.embedding import Distil, Imitation, LengthGroupedBatches, save_student
from compressor.distil.student import keep_layers
from compressor.errors import ModelError
from compressor.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.weights import read_header

TEXTS = sentences(300)
HELDOUT = sentences(100, seed=9)
STEPS = 3 * 19
DISTIL = Distil(
    layers=(0, 3),
    epochs=3.0,
    batch_size=16,
    learning_rate=3e-3,
    warmup_steps=5,
    max_length=12,
    precision="fp32",
    checkpoint_steps=10,
)


class Trained:
    """A training's folder, its checkpoints, and what was seen while it ran."""

    def __init__(self, home: Path) -> None:
        self.draft, self.checkpoints = Draft(home / "student"), home / "checkpoints"
        self.draft.folder.mkdir(parents=True, exist_ok=True)
        self.rows: list[list[int]] = []
        self.widths: list[int] = []
        self.dropout: set[float] = set()
        self.advanced: list[int] = []

    def run(self, teacher: Path, distil: Distil = DISTIL, stop_at: int | None = None) -> "Trained":
        """Train on TEXTS; stop as Ctrl-C does once ``stop_at`` texts were seen."""
        vectors = TorchEncoder.load(teacher).encode(TEXTS).astype(np.float16)
        forward = Imitation.forward

        def watched(loss: Imitation, features: Any, labels: Any) -> torch.Tensor:
            features = list(features)
            self.rows.append(labels.tolist())
            self.widths.append(features[0]["input_ids"].shape[1])
            self.dropout |= {m.p for m in loss.model.modules() if isinstance(m, torch.nn.Dropout)}
            return forward(loss, features, labels)

        @contextmanager
        def track(what: str, total: int, unit: str = "texts") -> Iterator[Callable[[int], None]]:
            def advance(amount: int) -> None:
                self.advanced.append(amount)
                if stop_at is not None and sum(self.advanced) >= stop_at:
                    raise KeyboardInterrupt

            yield advance

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Imitation, "forward", watched)
            patch.setattr(embedding, "track", track)
            distil.run(teacher, TEXTS, vectors, self.checkpoints, self.draft)
        return self

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.draft.folder / "model.safetensors")

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.checkpoints.iterdir())


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained")).run(tiny)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


def test_training_moves_the_student_to_its_teacher(tiny: Path, trained: Trained) -> None:
    teacher = TorchEncoder.load(tiny).encode(HELDOUT)
    before = TorchEncoder(keep_layers(open_model(tiny), DISTIL.layers)).encode(HELDOUT)
    after = TorchEncoder.load(trained.draft.folder).encode(HELDOUT)
    assert cosines(teacher, before).mean() < 0.5
    assert cosines(teacher, after).mean() > 0.95
    assert np.abs(np.linalg.norm(after, axis=1) - 1).max() < 1e-5


def test_the_saved_student(tiny: Path, trained: Trained) -> None:
    folder = trained.draft.folder
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 2
    assert sum(".output.dense.weight" in name for name in read_header(folder / "model.safetensors")) == 4
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    assert open_model(folder).max_seq_length == open_model(tiny).max_seq_length == 64
    figures = dict(trained.draft.figures)
    assert figures.pop("train_seconds") > 0
    assert figures == {"layers": [0, 3], "texts_seen": 900, "resumed_at_step": 0}


def test_every_text_is_seen_once_an_epoch_in_another_order(trained: Trained) -> None:
    epochs = [trained.rows[start : start + 19] for start in range(0, STEPS, 19)]
    assert len(trained.rows) == STEPS
    assert [sorted(sum(epoch, [])) for epoch in epochs] == [list(range(300))] * 3
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_progress_is_told_step_by_step(trained: Trained) -> None:
    assert trained.advanced == [0] + [16] * STEPS


def test_texts_are_cut_in_training_only(trained: Trained) -> None:
    assert max(trained.widths) == DISTIL.max_length == 12
    assert min(trained.widths) < 12  # and little is padded


def test_dropout_is_off(tiny: Path, trained: Trained) -> None:
    assert {m.p for m in open_model(tiny).modules() if isinstance(m, torch.nn.Dropout)} == {0.1}
    assert trained.dropout == {0.0}


@pytest.mark.parametrize(
    "family",
    [
        "Bert",
        "Roberta",
        "XLMRoberta",
        "DistilBert",
        "MPNet",
        "Electra",
    ],
)
def test_dropout_is_off_in_attention_too(family: str) -> None:
    model = random_transformer(family).train()
    ids = torch.arange(1, 15).reshape(2, 7)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert not model(**inputs).last_hidden_state.equal(model(**inputs).last_hidden_state)
    embedding._without_dropout(model)
    assert model(**inputs).last_hidden_state.equal(model(**inputs).last_hidden_state)


def test_equal_seeds_train_equal_students(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    again = Trained(tmp_path / "again").run(tiny)
    assert again.rows == trained.rows
    assert same(again.weights, trained.weights)


def test_another_seed_is_another_order(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    other = Trained(tmp_path).run(tiny, DISTIL.model_copy(update={"seed": 1, "epochs": 1.0}))
    assert other.rows != trained.rows[:19]
    assert sorted(sum(other.rows, [])) == list(range(300))


@pytest.mark.parametrize(("stopped", "resumed"), [(13, 10), (27, 20)])
def test_an_interrupted_training_goes_on_and_ends_the_same(
    tiny: Path, trained: Trained, tmp_path: Path, stopped: int, resumed: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        (first := Trained(tmp_path)).run(tiny, stop_at=16 * stopped)
    assert len(first.rows) == stopped
    assert first.kept() == [f"checkpoint-{resumed}"]
    second = Trained(tmp_path).run(tiny)
    assert second.rows == trained.rows[resumed:]
    assert second.advanced == [16 * resumed] + [16] * (STEPS - resumed)
    assert second.kept() == trained.kept() == [f"checkpoint-{STEPS}"]
    assert second.draft.figures["resumed_at_step"] == resumed
    assert same(second.weights, trained.weights)


def test_a_finished_training_is_not_done_again(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    first = Trained(tmp_path).run(tiny, DISTIL.model_copy(update={"epochs": 1.0}))
    second = Trained(tmp_path).run(tiny, DISTIL.model_copy(update={"epochs": 1.0}))
    assert (len(first.rows), len(second.rows)) == (19, 0)
    assert same(first.weights, second.weights)


def test_a_half_written_checkpoint_is_passed_over(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Trained(tmp_path).run(tiny, stop_at=16 * 13)
    broken = tmp_path / "checkpoints" / "checkpoint-20"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"\0" * 100)  # trainer_state.json is written last
    assert same(Trained(tmp_path).run(tiny).weights, trained.weights)


def test_bf16_training_gives_an_fp32_student(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    half = Trained(tmp_path).run(tiny, DISTIL.model_copy(update={"precision": "bf16"}))
    assert {value.dtype for value in half.weights.values()} == {torch.float32}
    assert not same(half.weights, trained.weights)
    teacher, student = (TorchEncoder.load(f).encode(HELDOUT) for f in (tiny, half.draft.folder))
    assert cosines(teacher, student).mean() > 0.95


def test_nothing_is_said_on_stdout(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Trained(tmp_path).run(tiny, DISTIL.model_copy(update={"epochs": 0.3, "checkpoint_steps": 2}))
    assert capfd.readouterr().out == ""


def test_the_loss_is_the_squared_distance_to_the_teachers_vector(tiny: Path) -> None:
    model = open_model(tiny)
    vectors = np.random.default_rng(0).normal(size=(50, 32)).astype(np.float16)
    rows = [7, 0, 49]
    texts = [TEXTS[i] for i in rows]
    features = model.tokenizer(texts, padding=True, return_tensors="pt")
    loss = Imitation(model, vectors)([dict(features)], torch.tensor(rows))
    distance = TorchEncoder(model).encode(texts) - vectors[rows].astype(np.float32)
    assert loss.item() == pytest.approx(float((distance**2).sum(axis=1).mean()), rel=1e-5)
    loss.backward()
    assert transformer_of(model).embeddings.word_embeddings.weight.grad.abs().max() > 0


LENGTHS = np.random.default_rng(0).integers(3, 60, 5003)


def batches(epoch: int = 0, seed: int = 0, count: int = len(LENGTHS)) -> list[list[int]]:
    sampler = LengthGroupedBatches(range(count), 16, LENGTHS[:count], False, seed=seed)
    sampler.set_epoch(epoch)
    made = list(sampler)
    assert len(made) == len(sampler)
    return made


def padding(made: list[list[int]]) -> int:
    return sum(int((LENGTHS[rows].max() - LENGTHS[rows]).sum()) for rows in made)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 800, 801, 5003])
def test_batches_hold_each_row_once(count: int) -> None:
    made = batches(count=count)
    assert sorted(sum(made, [])) == list(range(count))
    assert sum(len(rows) != 16 for rows in made) == (count % 16 > 0)
    assert max(len(rows) for rows in made) == min(16, count)


def test_batches_follow_seed_and_epoch() -> None:
    assert batches() == batches()
    made = [batches(), batches(epoch=1), batches(seed=1), batches(epoch=1, seed=1)]
    assert all(one != other for i, one in enumerate(made) for other in made[:i])


def test_batches_hold_little_padding() -> None:
    order = np.random.default_rng(1).permutation(len(LENGTHS))
    shuffled = [order[i : i + 16].tolist() for i in range(0, len(order), 16)]
    assert 0 < padding(batches()) < 0.1 * padding(shuffled)


def test_short_and_long_batches_take_turns() -> None:
    means = [LENGTHS[rows].mean() for rows in batches()]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


@pytest.fixture
def student(tiny: Path) -> Any:
    return keep_layers(open_model(tiny), (0, 3))


def test_a_student_that_states_its_teachers_depth_is_not_saved(student: Any, tmp_path: Path) -> None:
    save_student(student, tmp_path / "right", TEXTS[:8])
    transformer_of(student).config.num_hidden_layers = 4
    with pytest.raises(ModelError) as caught:
        save_student(student, tmp_path / "wrong", TEXTS[:8])
    assert str(caught.value) == f"{tmp_path / 'wrong'}: config.json says 4 layers, the weights hold 2"


def test_a_student_that_loads_otherwise_is_not_saved(
    student: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where layers cannot be counted by name, the vectors tell."""
    monkeypatch.setattr("compressor.sentence_model.check_folder", lambda folder: None)
    transformer_of(student).config.num_hidden_layers = 4
    with pytest.raises(ModelError, match=r"wrong: the saved student differs from the trained one by \d\.\de[-+]\d\d$"):
        save_student(student, tmp_path / "wrong", TEXTS[:8])


def test_a_run_ends_with_that_check(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Distil, student: Any, *rest: Any) -> None:
        transformer_of(student).config.num_hidden_layers = 4

    monkeypatch.setattr(Distil, "_train", forgetful)
    with pytest.raises(ModelError, match=r"student: config\.json says 4 layers, the weights hold 2$"):
        Trained(tmp_path).run(tiny)
