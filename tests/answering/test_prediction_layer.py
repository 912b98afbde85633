"""Prediction-layer losses are their formulas, and see only where an answer may stand."""

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from compressor.answering.training.losses import PredictionLayer, divergence, of_labels, squared

RANDOM = np.random.default_rng(0)
VALID = torch.tensor([[True, False, True, True, False], [True, False, True, True, True]])
LABELS = torch.tensor([[[2, 3]], [[0, 0]]])


def logits(scale: float = 1.0) -> torch.Tensor:
    return torch.tensor(scale * RANDOM.normal(size=(2, 5)), dtype=torch.float32)


def softmax(row: Any, valid: Any, temperature: float = 1.0) -> Any:
    made = np.exp(np.asarray(row) / temperature) * np.asarray(valid)
    return made / made.sum()


def rows(*tensors: torch.Tensor) -> Any:
    return zip(*(tensor.detach().numpy() for tensor in tensors), strict=True)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_kullback_and_leiblers_times_the_temperature_squared(temperature: float) -> None:
    student, teacher = logits(), logits()
    wanted = 0.0
    for own, other, valid in rows(student, teacher, VALID):
        p, q = softmax(other, valid, temperature), softmax(own, valid, temperature)
        wanted += (p[valid] * np.log(p[valid] / q[valid])).sum() * temperature**2 / 2
    assert divergence(student, teacher, VALID, temperature).item() == pytest.approx(wanted, rel=1e-4)
    assert divergence(student, student, VALID, temperature).item() == pytest.approx(0, abs=1e-6)


def test_labels_are_looked_for_among_the_valid_tokens() -> None:
    student = logits(), logits()
    wanted = [
        -np.log(softmax(own, valid)[label])
        for i, side in enumerate(student)
        for own, valid, label in rows(side, VALID, LABELS[:, 0, i])
    ]
    assert of_labels(student, LABELS, VALID).item() == pytest.approx(np.mean(wanted), rel=1e-5)


def test_of_several_answers_any_will_do() -> None:
    student = logits(), logits()
    labels = torch.tensor([[[2, 3], [0, 2]], [[3, 4], [-1, -1]]])
    starts, ends = ([softmax(own, valid) for own, valid in rows(side, VALID)] for side in student)
    likely = [starts[0][2] * ends[0][3] + starts[0][0] * ends[0][2], starts[1][3] * ends[1][4]]
    assert of_labels(student, labels, VALID).item() == pytest.approx(-np.log(likely).mean() / 2, rel=1e-5)
    more = torch.cat([labels, torch.full((2, 3, 2), -1)], dim=1)
    own = tuple(side.clone().requires_grad_() for side in student)
    loss = of_labels((own[0], own[1]), more, VALID)
    assert loss.item() == pytest.approx(of_labels(student, labels, VALID).item(), rel=1e-6)
    loss.backward()
    assert all(side.grad is not None and bool(side.grad.isfinite().all()) for side in own)


def test_squares_are_of_the_valid_tokens_and_of_no_shift() -> None:
    student, teacher = logits(), logits()
    wanted = []
    for own, other, valid in rows(student, teacher, VALID):
        difference = (own - other)[valid]
        wanted.append(((difference - difference.mean()) ** 2).mean())
    assert squared(student, teacher, VALID).item() == pytest.approx(np.mean(wanted), rel=1e-5)
    shifted = squared(student + 7, teacher - 3, VALID)
    assert shifted.item() == pytest.approx(np.mean(wanted), rel=1e-4)


@pytest.mark.parametrize("match", ["kl", "mse"])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_nothing_is_learnt_from_padding_and_question(match: Any, weight: float) -> None:
    student = [logits().requires_grad_(), logits().requires_grad_()]
    teacher = [logits(), logits()]
    loss = PredictionLayer(weight=weight, match=match).loss((student[0], student[1]), LABELS, VALID, teacher)
    loss.backward()
    for side in student:
        assert side.grad is not None
        assert side.grad[~VALID].abs().max() == 0
        assert side.grad[VALID].abs().max() > 1e-4
    for side in teacher:
        side[~VALID] = 99.0
    same = PredictionLayer(weight=weight, match=match).loss((student[0], student[1]), LABELS, VALID, teacher)
    assert same.item() == pytest.approx(loss.item(), rel=1e-5)


def test_the_weight_is_the_teachers_share_and_the_sides_count_half() -> None:
    student, teacher = (logits(), logits()), (logits(), logits())
    layer = PredictionLayer(weight=0.25, temperature=3.0)
    hard = of_labels(student, LABELS, VALID).item()
    soft = np.mean([divergence(student[i], teacher[i], VALID, 3.0).item() for i in range(2)])
    assert layer.loss(student, LABELS, VALID, teacher).item() == pytest.approx(0.25 * soft + 0.75 * hard, rel=1e-5)
    alone = PredictionLayer(weight=0.0).loss(student, LABELS, VALID)  # needs no teacher
    assert alone.item() == pytest.approx(hard, rel=1e-5)


def test_gradients_keep_their_size_at_any_temperature() -> None:
    """Hinton et al.: at high temperature, the squared one gives those of the logits' difference."""
    student, teacher = logits(0.1), logits(0.1)
    sizes = []
    for temperature in (5.0, 50.0):
        own = student.clone().requires_grad_()
        divergence(own, teacher, VALID, temperature).backward()
        assert own.grad is not None
        sizes.append(own.grad.norm().item())
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


@pytest.mark.parametrize("fields", [{"weight": 1.5}, {"weight": -0.1}, {"temperature": 0.0}, {"match": "cosine"}])
def test_what_is_out_of_range(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PredictionLayer(**fields)
