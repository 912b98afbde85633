"""A training ends where it was planned to, goes on where it was stopped, and keeps the best."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import sentences
from pydantic import ValidationError
from trained import FIELDS, HELDOUT, Trained, same, vectors

from compressor.core.errors import RecipeError
from compressor.distil.student.layers import keep_layers
from compressor.distil.training.embedding import Distil
from compressor.distil.training.losses import Imitation
from compressor.distil.training.train import Agreement
from compressor.distil.training.trainer import ImitationTrainer
from compressor.models import attention
from compressor.models.agreement import Heldout, cosines
from compressor.models.sentence_model import TorchEncoder, limit_tokens, open_model, token_limit
from compressor.vectors.pca import pair_correlation

STEPS = 2 * 19
TABLE = "embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("trained")).run(tiny, checkpoint_steps=10)


def test_every_text_is_seen_once_an_epoch_in_another_order(trained: Trained) -> None:
    epochs = [trained.rows[start : start + 19] for start in range(0, STEPS, 19)]
    assert len(trained.rows) == STEPS
    assert [sorted(sum(epoch, [])) for epoch in epochs] == [list(range(304))] * 2
    assert epochs[0] != epochs[1]


def test_progress_is_told_step_by_step(trained: Trained) -> None:
    assert trained.advanced == [0] + [16] * STEPS


def test_dropout_is_off(tiny: Path, trained: Trained) -> None:
    assert {m.p for m in open_model(tiny).modules() if isinstance(m, torch.nn.Dropout)} == {0.1}
    assert trained.dropout == {0.0}


def test_attention_in_bf16_is_computed_by_what_trains_fastest(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    own = attention._plain

    def plain(query: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(query.dtype)
        return own(query, *rest)

    monkeypatch.setattr(attention, "_plain", plain)
    Trained(tmp_path).run(tiny, epochs=0.1, precision="bf16")
    assert set(seen) == {torch.bfloat16}


def test_equal_seeds_train_equal_students_and_others_another_order(
    tiny: Path, trained: Trained, tmp_path: Path
) -> None:
    again = Trained(tmp_path / "again").run(tiny)
    assert again.rows == trained.rows
    assert same(again.weights, trained.weights)
    other = Trained(tmp_path / "other").run(tiny, seed=1, epochs=1.0)
    assert other.rows != trained.rows[:19]


@pytest.mark.parametrize(("stopped", "resumed"), [(13, 10), (27, 20)])
def test_an_interrupted_training_goes_on_and_ends_the_same(
    tiny: Path, trained: Trained, tmp_path: Path, stopped: int, resumed: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        (first := Trained(tmp_path)).run(tiny, stop_at=16 * stopped, checkpoint_steps=10)
    assert len(first.rows) == stopped
    assert first.kept() == [f"checkpoint-{resumed}"]
    second = Trained(tmp_path).run(tiny, checkpoint_steps=10)
    assert second.rows == trained.rows[resumed:]
    assert second.advanced == [16 * resumed] + [16] * (STEPS - resumed)
    assert second.kept() == trained.kept() == [f"checkpoint-{STEPS}"]
    assert second.draft.figures["resumed_at_step"] == resumed
    assert same(second.weights, trained.weights)


def test_maps_of_a_narrower_students_states_go_on_too(tiny: Path, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"layers": 4, "width": 16, "hidden": 1.0, "epochs": 1.0, "start": "auto"}
    alone = Trained(tmp_path / "alone").run(tiny, checkpoint_steps=10, **fields)
    with pytest.raises(KeyboardInterrupt):
        Trained(tmp_path / "both").run(tiny, stop_at=16 * 13, checkpoint_steps=10, **fields)
    assert same(Trained(tmp_path / "both").run(tiny, checkpoint_steps=10, **fields).weights, alone.weights)


def test_a_half_written_checkpoint_is_passed_over(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Trained(tmp_path).run(tiny, stop_at=16 * 13, checkpoint_steps=10)
    broken = tmp_path / "checkpoints" / "checkpoint-20"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"\0" * 100)  # trainer_state.json is written last
    assert same(Trained(tmp_path).run(tiny, checkpoint_steps=10).weights, trained.weights)


def test_a_finished_training_is_not_done_again(tiny: Path, tmp_path: Path) -> None:
    first, second = (Trained(tmp_path).run(tiny, epochs=1.0) for _ in range(2))
    assert (len(first.rows), len(second.rows)) == (19, 0)
    assert same(first.weights, second.weights)


def test_parts_of_a_step_add_up_to_it(tiny: Path, trained: Trained, tmp_path: Path) -> None:
    made = Trained(tmp_path).run(tiny, accumulate=2)
    assert [len(rows) for rows in made.rows] == [8] * 2 * STEPS
    assert [sum(made.rows[i : i + 2], []) for i in range(0, 2 * STEPS, 2)] == trained.rows
    assert made.draft.figures["steps"] == STEPS
    np.testing.assert_allclose(made.encode(), trained.encode(), atol=1e-5)


def test_embeddings_have_a_learning_rate_of_their_own(tiny: Path, tmp_path: Path) -> None:
    start = keep_layers(open_model(tiny), (0, 3))[0].auto_model.state_dict()
    moved = []
    for rate in (None, 3e-2, 0.0):
        weights = Trained(tmp_path / str(rate)).run(tiny, epochs=0.5, embedding_learning_rate=rate).weights
        moved.append([(weights[n] - start[n]).norm().item() for n in (TABLE, "encoder.layer.0.output.dense.weight")])
    assert moved[1][0] > 4 * moved[0][0]
    assert moved[1][1] < 2 * moved[0][1]
    assert moved[2][0] == 0, "at 0 the vocabulary stays as it is"
    assert moved[2][1] > 0.5 * moved[0][1]


@pytest.mark.parametrize("slow", [False, True])
def test_a_time_budget_is_kept(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool) -> None:
    """Also on a machine that slows down on the way; the learning rate reaches zero on either."""
    rates: list[float] = []
    create, forward, calls = ImitationTrainer.create_scheduler, Imitation.forward, [0]
    step = torch.optim.lr_scheduler.LambdaLR.step

    def created(self: Any, *rest: Any, **more: Any) -> Any:
        made = create(self, *rest, **more)
        monkeypatch.setattr(type(made), "step", lambda it, *a: (step(it, *a), rates.append(it.get_last_lr()[0]))[0])
        return made

    def slowed(self: Any, features: Any, labels: Any) -> Any:
        calls[0] += 1
        if calls[0] > 20 and slow:
            time.sleep(0.05)
        return forward(self, features, labels)

    monkeypatch.setattr(ImitationTrainer, "create_scheduler", created)
    monkeypatch.setattr(Imitation, "forward", slowed)
    made = Trained(tmp_path).run(tiny, time_budget="3s")
    assert 0.9 * 3 < made.draft.figures["train_seconds"] < 1.3 * 3
    assert rates[-1] < 0.05 * max(rates)
    assert 1.5e-3 < max(rates) <= 3e-3  # what the first steps took of the budget is off
    assert made.draft.figures["steps"] > (20 if slow else STEPS)
    assert made.cosine(tiny) > 0.95
    again = Trained(tmp_path).run(tiny, time_budget="3s")
    assert (len(again.rows), again.draft.figures["resumed_at_step"]) == (1, made.draft.figures["steps"])
    assert same(again.weights, made.weights)


def test_an_early_stop_keeps_the_best(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The learning rate rises until it ruins the student."""
    seen: list[float] = []
    judge = Agreement.__call__
    monkeypatch.setattr(
        Agreement, "__call__", lambda *a, **b: (found := judge(*a, **b), seen.append(found["agreement"]))[0]
    )
    made = Trained(tmp_path).run(
        tiny, layers=(0, 1, 2), epochs=10.0, learning_rate=0.1, warmup_steps=95, checkpoint_steps=2, patience=3
    )
    assert made.draft.figures["steps"] < 190
    assert len(seen) >= 4
    assert max(seen) == seen[-4] > seen[-1] + 0.02
    kept = TorchEncoder.load(made.draft.folder).encode(HELDOUT)
    assert pair_correlation(vectors(tiny, "heldout"), kept) == pytest.approx(max(seen), abs=1e-4)


def test_patience_goes_with_states(tiny: Path, tmp_path: Path) -> None:
    """Judging runs the student too, and must leave nothing to the next step."""
    made = Trained(tmp_path).run(tiny, patience=5, checkpoint_steps=10, hidden=1.0)
    assert made.draft.figures["steps"] == STEPS


def test_patience_needs_texts_to_judge_by(tiny: Path, tmp_path: Path) -> None:
    from compressor.artifact.folder import Draft

    with pytest.raises(RecipeError, match=r"^distil\.patience = 2: no texts to choose by$"):
        Distil(**FIELDS | {"patience": 2}).run(
            tiny, sentences(20), vectors(tiny)[:20], tmp_path / "checkpoints", Draft(tmp_path)
        )


def test_an_early_stop_is_judged_on_texts_as_long_as_the_student_reads(tiny: Path) -> None:
    texts = [" ".join(sentences(2, seed=seed)) for seed in range(60)]
    teacher = Heldout(texts, TorchEncoder.load(tiny).encode(texts))
    model = open_model(tiny)
    limit_tokens(model, 6)
    assert Agreement(teacher, 64)(model)["agreement"] == pytest.approx(1)
    assert token_limit(model) == 6
    assert Agreement(teacher)(model)["agreement"] < 0.95


@pytest.mark.parametrize("text", ["10", "m", "10 m", "1d", "-1m"])
def test_durations(text: str) -> None:
    with pytest.raises(ValidationError, match="must be a number above 0 with s, m or h behind it, as 10m"):
        Distil(time_budget=text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"batch_size": 9},
            "distil.batch_size = 9: must be a multiple of 2, 2 processes times accumulate = 1",
        ),
        ({"time_budget": "9s"}, "distil.time_budget = 9s: with one process only; give epochs instead"),
    ],
)
def test_what_several_processes_cannot_do(
    fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError) as caught:
        Distil(**FIELDS | fields).check_processes()
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "more",
    [
        pytest.param("", id="vectors", marks=pytest.mark.slow),
        pytest.param("--width 16 --hidden 1 --attention 1", id="states", marks=pytest.mark.slow),
        pytest.param("--margin 1", id="margins", marks=pytest.mark.slow),
    ],
)
def test_two_processes_train_what_one_trains(tiny: Path, tmp_path: Path, more: str) -> None:
    texts = sentences(400)
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    fields = f"--layers 0,3 --batch-size 16 --learning-rate 3e-3 --warmup-steps 5 --precision fp32 {more}"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    vectors_of = []
    for start in (["-m"], ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m"]):
        out = tmp_path / f"out{len(vectors_of)}" / "student"
        line = [sys.executable, *start, "compressor.cli", "distil", "--teacher", str(tiny), "--out", str(out)]
        line += ["--texts", str(tmp_path / "texts.txt"), *fields.split()]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in out.parent.iterdir()] == ["student"]
        assert json.loads((out / "manifest.json").read_text())["figures"]["steps"] == 20  # of 320 texts
        vectors_of.append(TorchEncoder.load(out).encode(sentences(150, seed=9)))
    one, two = (float(cosines(vectors(tiny, "heldout"), found).mean()) for found in vectors_of)
    assert abs(one - two) < 0.001
    assert cosines(*vectors_of).min() > 0.999
