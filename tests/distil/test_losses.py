"""Each loss is its formula, and moves the student where it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from trained import HELDOUT, TEXTS, Trained, vectors

from compressor.core.errors import RecipeError
from compressor.distil.student.layers import keep_layers
from compressor.distil.training import losses
from compressor.distil.training.embedding import Distil
from compressor.distil.training.losses import Imitation, Losses, Targets
from compressor.distil.training.states import States
from compressor.models.agreement import cosines
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.vectors.retrieval import as_ranked_by

RANDOM = np.random.default_rng(0)


def units(seed: int, rows: int = 7, dim: int = 5) -> Any:
    made = np.random.default_rng(seed).normal(size=(rows, dim)) + 0.5
    return made / np.linalg.norm(made, axis=1, keepdims=True)


A, B = units(0), units(1)
TA, TB = torch.tensor(A), torch.tensor(B)


def test_mse_is_the_squared_distance() -> None:
    assert losses.mse(TA, TB).item() == pytest.approx(
        np.mean([np.sum((a - b) ** 2) for a, b in zip(A, B, strict=True)])
    )


def test_cosine_is_one_minus_the_cosine_at_any_length() -> None:
    wanted = 1 - np.mean([a @ b for a, b in zip(A, B, strict=True)])
    assert losses.cosine(3 * TA, TB / 2).item() == pytest.approx(wanted)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_pairwise_weighs_pairs_by_the_teachers_similarity(power: float) -> None:
    above = below = 0.0
    for i in range(7):
        for j in range(7):
            if i != j:
                weight = max(B[i] @ B[j], 0) ** power if power else 1.0
                above += weight * (A[i] @ A[j] - B[i] @ B[j]) ** 2
                below += weight
    assert losses.pairwise(TA, TB, power).item() == pytest.approx(7 * above / below)
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=TB.dtype, generator=torch.Generator().manual_seed(0)))[0]
    assert losses.pairwise(TB @ turn, TB, power).item() == pytest.approx(0, abs=1e-9)


def test_pairwise_takes_sides_of_different_dimension() -> None:
    assert losses.pairwise(torch.tensor(units(2, dim=3)), TB, 2.0).item() > 0


def test_ranking_is_the_cross_entropy_of_the_own_teacher() -> None:
    scores = A @ B.T / 0.05
    wanted = -np.mean([scores[i, i] - np.log(np.exp(scores[i]).sum()) for i in range(7)])
    assert losses.ranking(TA, TB, 0.05).item() == pytest.approx(wanted)


def test_order_is_the_divergence_of_two_rankings_of_a_bank() -> None:
    bank, wanted = units(2, rows=20), 0.0
    for a, b in zip(A, B, strict=True):
        own, teachers = (np.exp(side @ bank.T / 0.1) / np.exp(side @ bank.T / 0.1).sum() for side in (a, b))
        wanted += np.sum(teachers * np.log(teachers / own)) / 7
    assert losses.order(2 * TA, TB / 3, 4 * torch.tensor(bank), 0.1).item() == pytest.approx(wanted)
    assert losses.order(TB, TB, torch.tensor(bank), 0.1).item() == pytest.approx(0, abs=1e-9)


def test_a_batchs_bank_is_the_same_each_time() -> None:
    known = np.arange(100, dtype=np.float32)[:, None]
    targets = Targets(lambda numbers: known[numbers], None, 100)
    one, again, other = (targets.bank(torch.tensor(rows), 30)[:, 0] for rows in ([3, 1, 2], [1, 2, 3], [4, 5, 6]))
    assert one.tolist() == again.tolist() != other.tolist()
    assert len(set(one.tolist())) == 30
    assert len(targets.bank(torch.tensor([1]), 500)) == 100  # no more than there are


def test_order_teaches_a_student_to_search_the_teachers_index(tiny: Path, tmp_path: Path, base: Trained) -> None:
    """The tiny teacher's vectors are all alike (mean cosine 0.986), so similarities differ by thousandths."""
    made = Trained(tmp_path).run(tiny, order=1.0, bank=128, temperature=0.005)
    known = vectors(tiny, "heldout")
    ranked = [as_ranked_by((known[:50], known), (student.encode()[:50], known), same=True) for student in (made, base)]
    assert ranked[0] > ranked[1] + 2


@pytest.mark.parametrize("weight", [-1.0, (1.0, -0.5)])
@pytest.mark.parametrize("name", ["mse", "cosine", "pairwise", "ranking", "order", "margin", "hidden", "attention"])
def test_negative_weights_are_refused(name: str, weight: Any) -> None:
    with pytest.raises(ValidationError, match="must not be negative"):
        Losses(**{name: weight})
    with pytest.raises(RecipeError) as caught:
        Distil.read({name: weight})
    assert name in str(caught.value)
    assert "must not be negative" in str(caught.value)


def test_a_pair_of_weights_is_a_straight_line() -> None:
    asked = Losses(mse=(1.0, 0.0), pairwise=(0.0, 2.0), cosine=0.5)
    assert asked.weights(0.0) == {"mse": 1.0, "cosine": 0.5}
    assert asked.weights(0.25) == {"mse": 0.75, "cosine": 0.5, "pairwise": 0.5}
    assert asked.weights(1.0) == {"cosine": 0.5, "pairwise": 2.0}
    assert asked.asked == {"mse", "cosine", "pairwise"}


@pytest.fixture(scope="module")
def base(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("base")).run(tiny)


def test_progress_leads_the_weights(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    weights = Losses.weights
    monkeypatch.setattr(Losses, "weights", lambda self, progress: seen.append(progress) or weights(self, progress))
    Trained(tmp_path).run(tiny, epochs=1.0)
    steps = [progress for progress in seen[-19:]]
    assert steps == pytest.approx([i / 19 for i in range(19)])


def inputs(tiny: Path, texts: list[str], **options: Any) -> dict[str, Any]:
    return dict(open_model(tiny).tokenizer(texts, return_tensors="pt", **{"padding": True} | options))


def test_the_loss_of_a_batch(tiny: Path) -> None:
    model, known = open_model(tiny), RANDOM.normal(size=(50, 32)).astype(np.float16)
    rows = [7, 0, 49]
    texts = [TEXTS[i] for i in rows]
    targets = Targets(lambda numbers: known[numbers].astype(np.float32), None)
    loss = Imitation(model, Losses(mse=2.0, cosine=(0.0, 1.0)), targets)
    loss.progress = 0.5
    own, wanted = TorchEncoder(model).encode(texts), known[rows].astype(np.float32)
    near = np.einsum("nd,nd->n", own, wanted) / np.linalg.norm(wanted, axis=1)
    value = loss([inputs(tiny, texts)], torch.tensor(rows))
    assert value.item() == pytest.approx(2 * np.mean(((own - wanted) ** 2).sum(1)) + 0.5 * (1 - near.mean()), rel=1e-5)
    value.backward()
    assert transformer_of(model).embeddings.word_embeddings.weight.grad.abs().max() > 0


def test_matryoshka_is_the_mean_over_the_prefixes(tiny: Path) -> None:
    """With no projection to turn into, the pairwise loss shows the prefixes alone."""
    model, known = open_model(tiny), vectors(tiny)
    targets = Targets(lambda numbers: known[numbers], None)
    loss = Imitation(model, Losses(mse=0.0, pairwise=1.0, matryoshka=(4, 8)), targets)
    own, wanted = torch.tensor(known[:6]), torch.tensor(known[:6])
    value = loss([inputs(tiny, TEXTS[:6])], torch.arange(6))
    parts = [losses.pairwise(own[:, :dim], wanted, 2.0).item() for dim in (4, 8, 32)]
    assert value.item() == pytest.approx(np.mean(parts), rel=1e-3)


def test_prefixes_of_a_matryoshka_agree_more(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a student that learns whole vectors alone in the same space."""
    made = Trained(tmp_path / "made").run(tiny, matryoshka=(4, 8))
    of_vectors = Imitation._of_vectors

    def of_whole(self: Any, student: Any, teacher: Any, bank: Any, near: Any, dim: int, weights: Any) -> Any:
        return of_vectors(self, student, teacher, bank, near, dim, weights) if dim == 32 else student.new_zeros(())

    monkeypatch.setattr(Imitation, "_of_vectors", of_whole)
    without = Trained(tmp_path / "without").run(tiny, matryoshka=(4, 8))
    for dim in (4, 8):
        near, other = (prefix_cosine(tiny, one, dim) for one in (made, without))
        assert 1 - near < 0.97 * (1 - other)


def prefix_cosine(teacher: Path, made: Trained, dim: int) -> float:
    """Return the mean cosine of held-out prefixes to those of the teacher's vectors in the student's space."""
    projection = Projection.load(made.draft.folder)
    assert projection is not None
    return float(cosines(made.encode()[:, :dim], projection.apply(vectors(teacher, "heldout"))[:, :dim]).mean())


def states_of(tiny: Path, student: Any, kept: tuple[int, ...] = (0, 3), names: Any = None, **options: Any) -> Any:
    """Return the losses of the states on held-out texts."""
    states = States(open_model(tiny), student, kept, names or {"hidden", "attention"})
    features = inputs(tiny, HELDOUT[:40], **options)
    with torch.no_grad():
        transformer_of(student)(**features)
        return {name: value.item() for name, value in states(features).items()}


@pytest.mark.parametrize("name", ["hidden", "attention"])
def test_states_come_nearer_where_they_are_asked_for(tiny: Path, base: Trained, tmp_path: Path, name: str) -> None:
    made = Trained(tmp_path).run(tiny, **{name: 3.0})
    left = [states_of(tiny, open_model(one.draft.folder))[name] for one in (made, base)]
    assert left[0] < 0.9 * left[1]


def test_states_of_a_narrower_student_come_nearer(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against one whose states have next to no weight: its map to the teacher's width learns as fast there."""
    forward, seen = States.forward, list[dict[str, float]]()

    def watched(states: States, features: dict[str, Any]) -> dict[str, torch.Tensor]:
        values = forward(states, features)
        seen.append({name: value.item() for name, value in values.items()})
        return values

    monkeypatch.setattr(States, "forward", watched)
    ends = []
    for weight in (1.0, 1e-9):
        seen.clear()
        fields = {"layers": 2, "width": 16, "start": "auto", "hidden": weight, "attention": weight}
        made = Trained(tmp_path / str(weight)).run(tiny, **fields)
        ends.append({name: float(np.mean([one[name] for one in seen[-5:]])) for name in ("hidden", "attention")})
        assert made.cosine(tiny) > 0.9
    for name in ("hidden", "attention"):
        assert ends[0][name] < 0.9 * ends[1][name]


def test_the_same_model_leaves_nothing_to_match(tiny: Path) -> None:
    left = states_of(tiny, open_model(tiny), (0, 1, 2, 3))
    assert left == pytest.approx({"hidden": 0, "attention": 0}, abs=1e-10)


def test_padding_does_not_count(tiny: Path) -> None:
    student = keep_layers(open_model(tiny), (0, 3))
    tight = states_of(tiny, student)
    wide = states_of(tiny, keep_layers(open_model(tiny), (0, 3)), padding="max_length", max_length=40)
    assert wide == pytest.approx(tight, rel=1e-4)
    assert min(tight.values()) > 1e-3


def test_a_layer_stands_for_those_up_to_the_next_kept(make_model: Callable[..., Path]) -> None:
    folder = make_model(layers=6)
    teacher = open_model(folder)
    student = keep_layers(teacher, (0, 2, 5))
    states = States(open_model(folder), student, (0, 2, 5), {"hidden", "attention"})
    assert (states.states, states.attentions) == ([1, 4, 5], [0, 2, 5])
    features = inputs(folder, HELDOUT[:10])
    mask = features["attention_mask"].bool()
    with torch.no_grad():
        own, wanted = (
            m(**features, output_hidden_states=True, output_attentions=True)
            for m in (transformer_of(student), states.teacher[0])
        )
        transformer_of(student)(**features)
        got = states(features)
    pairs = [(own.hidden_states[i + 1], wanted.hidden_states[j + 1]) for i, j in enumerate([1, 4, 5])]
    hidden = np.mean([(a - b).square().mean(-1)[mask].mean().item() for a, b in pairs])
    both = [(own.attentions[i], wanted.attentions[j]) for i, j in enumerate([0, 2, 5])]
    attention = np.mean([(a - b).square().sum(-1).mean(1)[mask].mean().item() for a, b in both])
    assert got["hidden"].item() == pytest.approx(hidden, rel=1e-4)
    assert got["attention"].item() == pytest.approx(attention, rel=1e-4)


def test_a_run_for_vectors_alone_leaves_nothing_behind(tiny: Path) -> None:
    student = keep_layers(open_model(tiny), (0, 3))
    wanted = states_of(tiny, student)
    again = keep_layers(open_model(tiny), (0, 3))
    states = States(open_model(tiny), again, (0, 3), {"hidden", "attention"})
    TorchEncoder(again).encode(HELDOUT)
    features = inputs(tiny, HELDOUT[:40])
    with torch.no_grad():
        transformer_of(again)(**features)
        assert {name: v.item() for name, v in states(features).items()} == pytest.approx(wanted)


def test_a_static_student_has_no_states(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        Trained(tmp_path).run(tiny, layers=0, hidden=1.0)
    assert str(caught.value) == "distil.hidden: a static student has no layers to match; leave it at 0"


def test_another_vocabulary_has_no_states(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        Trained(tmp_path).run(tiny, vocabulary=60, attention=1.0)
    assert str(caught.value) == "distil.attention: student and teacher cut texts differently; leave it at 0"
