"""What trainings share: where they go on, the maps beside a checkpoint, the trainer's arguments."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from compressor.distil.training import loop


def maps(value: float) -> loop.Maps:
    """Return those of one map, all of ``value``."""
    module = torch.nn.Linear(3, 2, bias=False)
    torch.nn.init.constant_(module.weight, value)
    return loop.Maps(module)


def checkpoint(folder: Path, step: int, own: loop.Maps | None = None, whole: bool = True) -> Path:
    """Write a checkpoint as a trainer does."""
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"")
    if whole:
        (made / "trainer_state.json").write_text("{}")
    if own:
        own.save(made)
    return made


class Trainer:
    """One that notes what it is asked."""

    def __init__(self, own: loop.Maps) -> None:
        self.asked: list[Any] = []
        self.maps, self.accelerator = own, self

    def remove_callback(self, kind: type) -> None:
        self.asked.append(kind.__name__)

    def train(self, resume_from_checkpoint: str | None) -> None:
        self.asked += [resume_from_checkpoint, self.maps.weights()["weight"].mean().item()]

    def unwrap_model(self, model: str, keep_fp32_wrapper: bool) -> None:
        self.asked.append((model, keep_fp32_wrapper))


def test_the_newest_whole_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    none = loop.Maps(None)
    assert loop.last_checkpoint(tmp_path, none) is None
    for step in (9, 100, 20):
        checkpoint(tmp_path, step)
    checkpoint(tmp_path, 110, whole=False)
    assert loop.last_checkpoint(tmp_path, none) == tmp_path / "checkpoint-100"


def test_a_checkpoint_that_was_stopped_before_its_maps_is_passed_over(tmp_path: Path) -> None:
    own = maps(1.0)
    checkpoint(tmp_path, 10, own)
    checkpoint(tmp_path, 20)
    assert loop.last_checkpoint(tmp_path, own) == tmp_path / "checkpoint-10"
    assert loop.last_checkpoint(tmp_path, loop.Maps(torch.nn.Identity())) == tmp_path / "checkpoint-20"


def test_maps_are_those_of_the_checkpoint(tmp_path: Path) -> None:
    made, other = checkpoint(tmp_path, 10, maps(0.25)), maps(4.0)
    weight = other.module.weight  # type: ignore[union-attr]
    other.load(made)
    assert weight.eq(0.25).all()
    assert weight.requires_grad
    for nothing in (loop.Maps(None), loop.Maps(lambda features: {}), loop.Maps(torch.nn.Identity())):
        empty = checkpoint(tmp_path / str(id(nothing)), 5, nothing)
        nothing.load(empty)
        assert sorted(path.name for path in empty.iterdir()) == ["model.safetensors", "trainer_state.json"]


def test_a_training_goes_on_with_all_that_was_kept(tmp_path: Path) -> None:
    kept, own, begun = checkpoint(tmp_path, 30, maps(0.5)), maps(2.0), []
    trainer = Trainer(own)
    done = loop.train(trainer, "model", tmp_path, own, lambda at: begun.append((at, len(trainer.asked))))
    assert trainer.asked == ["PrinterCallback", str(kept), 0.5, ("model", False)]
    assert begun == [(kept, 1)]
    assert done.resumed_at_step == 30
    assert 0 <= done.seconds < 1


def test_a_training_begins_where_nothing_was_kept(tmp_path: Path) -> None:
    own, begun = maps(2.0), []
    trainer = Trainer(own)
    assert loop.train(trainer, "model", tmp_path / "none", own, begun.append).resumed_at_step == 0
    assert trainer.asked[1:3] == [None, 2.0]
    assert begun == [None]


@pytest.mark.parametrize(("first", "kept"), [(True, ["maps.safetensors"]), (False, [])])
def test_steps_are_reported_and_the_first_process_keeps_the_maps(tmp_path: Path, first: bool, kept: list[str]) -> None:
    told: list[int] = []
    progress = loop.Progress(told.append, 16, maps(1.0))
    state, args = SimpleNamespace(global_step=3, is_world_process_zero=first), SimpleNamespace(output_dir=str(tmp_path))
    (tmp_path / "checkpoint-3").mkdir()
    progress.on_train_begin(args, state, None)
    progress.on_step_end(args, state, None)
    progress.on_save(args, state, None)
    assert told == [48, 16]
    assert [path.name for path in (tmp_path / "checkpoint-3").iterdir()] == kept


def test_a_trainings_own_arguments_stand_for_the_shared_ones(tmp_path: Path) -> None:
    shared = loop.arguments(tmp_path, 38, 10, 7, False)
    given = TrainingArguments(**shared)
    assert (given.max_steps, given.save_steps, given.logging_steps, given.seed) == (38, 10, 10, 7)
    assert (given.save_total_limit, given.report_to, given.disable_tqdm, given.bf16) == (1, [], True, False)
    assert not given.dataloader_pin_memory
    own = loop.arguments(tmp_path, 38, 10, 7, True, save_total_limit=2, eval_steps=10)
    assert own == shared | {"bf16": True, "save_total_limit": 2, "eval_steps": 10}
