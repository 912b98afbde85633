"""What is held against a student's states is where these are: the teacher, and the maps between widths."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import random_transformer
from transformers import Trainer

from compressor.answering.training.losses import PredictionLayer
from compressor.answering.training.train import ReaderLoss, ReaderTrainer
from compressor.distil.training.states import Matching

NAMES = {"hidden", "attention", "embeddings"}


def matching(own: Any) -> Matching:
    return Matching(random_transformer("Bert", hidden_size=32), own, (1, 2), (1, 2), NAMES)


def test_the_teacher_is_moved_to_the_inputs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    autocast = torch.autocast

    def seen(device: str, *rest: Any, **options: Any) -> Any:
        used.append(device)
        return autocast(device, *rest, **options)

    monkeypatch.setattr(torch, "autocast", seen)
    own = random_transformer("Bert", num_hidden_layers=2)
    beside = matching(own)
    beside.teacher = [elsewhere := Elsewhere(beside.teacher[0])]
    ids = torch.arange(1, 11).reshape(2, 5)
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for _ in range(2):
        own(**features)
        assert beside(features).keys() == NAMES
    assert elsewhere.moved == [torch.device("cpu")]
    assert used == ["cpu"] * 2


class Elsewhere:
    """A teacher that stands on another device until it is moved."""

    def __init__(self, teacher: Any) -> None:
        self.teacher, self.device, self.moved = teacher, torch.device("meta"), list[torch.device]()

    def to(self, device: torch.device) -> None:
        self.device = device
        self.moved.append(device)

    def __call__(self, **inputs: Any) -> Any:
        assert self.device == inputs["input_ids"].device
        return self.teacher(**inputs)


def test_a_readers_maps_go_where_its_model_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def begin(self: Any, **_: Any) -> None:
        self.model = SimpleNamespace(device=torch.device("meta"))

    monkeypatch.setattr(Trainer, "__init__", begin)
    loss = ReaderLoss(PredictionLayer(), matching=matching(random_transformer("Bert", num_hidden_layers=2)))
    made: Any = ReaderTrainer([], loss)  # type: ignore[arg-type]
    assert {value.device.type for value in made.loss.parameters()} == {"meta"}
