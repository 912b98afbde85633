"""A student learns how much nearer a text is to one neighbour than to another."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trained import TEXTS, Trained, same, vectors

from compressor.core.cache import cache_folder
from compressor.core.errors import RecipeError
from compressor.distil.training.embedding import Distil
from compressor.distil.training.lessons import Lessons, Part
from compressor.distil.training.losses import Imitation, Losses, Targets
from compressor.distil.training.mining import mine
from compressor.models.projection import Projection
from compressor.vectors.distances import margin, mse
from compressor.vectors.retrieval import as_ranked_by

RANDOM = np.random.default_rng(0)


def units(*shape: int) -> Any:
    made = RANDOM.normal(size=shape).astype(np.float32)
    return made / np.linalg.norm(made, axis=-1, keepdims=True)


def by_hand(own: Any, teacher: Any, near: Any) -> float:
    """Return the loss in loops: each pair of a text's neighbours has a margin."""
    squares = []
    for student, known, neighbours in zip(own, teacher, near, strict=True):
        for i, one in enumerate(neighbours):
            for other in neighbours[i + 1 :]:
                squares.append(((student @ one - student @ other) - (known @ one - known @ other)) ** 2)
    return own.shape[1] * float(np.mean(squares))


@pytest.mark.parametrize("neighbours", [2, 5])
def test_margin_is_the_squared_difference_of_the_teachers_margins(neighbours: int) -> None:
    own, teacher, near = units(7, 6), units(7, 6), units(7, neighbours, 6)
    a, b, c = map(torch.from_numpy, (own, teacher, near))
    assert margin(a, b, c).item() == pytest.approx(by_hand(own, teacher, near), rel=1e-5)
    assert margin(2 * a, b / 3, 4 * c).item() == pytest.approx(by_hand(own, teacher, near), rel=1e-5)
    assert margin(b, b, c).item() == pytest.approx(0, abs=1e-9)


def of_batch(losses: Losses, targets: Targets, own: Any, rows: list[int]) -> torch.Tensor:
    """Return the loss of a batch whose student's vectors are ``own``."""

    def model(features: Any) -> Any:
        return {"sentence_embedding": features["own"]}

    return Imitation(model, losses, targets)([{"own": torch.from_numpy(own)}], torch.tensor(rows))


def test_the_neighbours_of_a_batch_are_its_texts_own() -> None:
    known, neighbours = units(40, 6), RANDOM.integers(40, size=(40, 3)).astype(np.int32)
    targets, own, rows = Targets(lambda numbers: known[numbers], None, 40, neighbours), units(4, 6), [7, 0, 39, 7]
    np.testing.assert_array_equal(targets.near(torch.tensor(rows)).numpy(), known[neighbours[rows]])
    found = of_batch(Losses(mse=0.5, margin=2.0), targets, own, rows)
    squared = float(((own - known[rows]) ** 2).sum(1).mean())
    assert found.item() == pytest.approx(
        0.5 * squared + 2 * by_hand(own, known[rows], known[neighbours[rows]]), rel=1e-5
    )


def test_prefixes_are_compared_in_the_space_that_they_are_of() -> None:
    known, neighbours = units(40, 6), RANDOM.integers(40, size=(40, 4)).astype(np.int32)
    projection = Projection(np.linalg.qr(RANDOM.normal(size=(6, 5)))[0].T.astype(np.float32), np.zeros(6, np.float32))
    targets = Targets(lambda numbers: known[numbers], projection, 40, neighbours)
    own, rows, wanted = units(3, 5), [3, 8, 20], []
    for dim in (5, 2):
        reduced = known @ projection.components[:dim].T
        reduced /= np.linalg.norm(reduced, axis=1, keepdims=True)
        prefix = own[:, :dim] / np.linalg.norm(own[:, :dim], axis=1, keepdims=True)
        wanted.append(by_hand(prefix, reduced[rows], reduced[neighbours[rows]]))
    found = of_batch(Losses(mse=0.0, margin=1.0, matryoshka=(2,)), targets, own, rows)
    assert found.item() == pytest.approx(np.mean(wanted), rel=1e-4)


def test_without_weight_nothing_is_looked_up() -> None:
    known = units(9, 6)
    targets = Targets(lambda numbers: known[numbers], None, 9)
    assert of_batch(Losses(), targets, known[:3], [0, 1, 2]).item() == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match=r"^no neighbours were mined$"):
        of_batch(Losses(margin=1.0), targets, known[:3], [0, 1, 2])


def test_a_student_of_few_dimensions_ranks_the_teachers_index_better() -> None:
    """Against the squared error alone: what it has no room for is chosen by what tells neighbours apart."""
    random = np.random.default_rng(0)
    topics = random.normal(size=(60, 96))
    seen = (topics[random.integers(60, size=3000)] + 0.7 * random.normal(size=(3000, 96))).astype(np.float32)
    known = np.tanh(seen @ random.normal(size=(96, 128)) / 8) @ random.normal(size=(128, 48))
    known = (known / np.linalg.norm(known, axis=1, keepdims=True)).astype(np.float32)
    neighbours = mine(lambda numbers: known[numbers], 2500, 2500, 16)
    kept = {}
    for weight in (0.0, 1.0):
        own = narrow_student(seen, known, neighbours, weight)
        kept[weight] = as_ranked_by((known[2500:], known[:2500]), (own[2500:], known[:2500]))
    assert kept[1.0] > kept[0.0] + 1


def narrow_student(seen: Any, known: Any, neighbours: Any, weight: float) -> Any:
    """Train a linear map through 16 dimensions on the first 2500; return its vectors of all."""
    torch.manual_seed(0)
    student = torch.nn.Sequential(torch.nn.Linear(96, 16), torch.nn.Linear(16, 48))
    adam, random, given = torch.optim.Adam(student.parameters(), 3e-3), np.random.default_rng(0), torch.from_numpy(seen)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / 800)
    for _ in range(800):
        rows = random.choice(2500, 128, replace=False)
        own, wanted = torch.nn.functional.normalize(student(given[rows]), dim=1), torch.from_numpy(known[rows])
        loss = mse(own, wanted) + weight * margin(own, wanted, torch.from_numpy(known[neighbours[rows]]))
        adam.zero_grad()
        loss.backward()
        adam.step()
        falling.step()
    with torch.no_grad():
        return student(given).numpy()


def test_a_stopped_training_goes_on_the_same(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the neighbours have to be found again."""
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    fields: dict[str, Any] = {"margin": (0.0, 50.0), "negatives": 4, "epochs": 1.0, "checkpoint_steps": 5}
    alone = Trained(tmp_path / "alone").run(tiny, **fields)
    plain = Trained(tmp_path / "plain").run(tiny, **fields | {"margin": 0.0})
    assert not same(alone.weights, plain.weights)
    with pytest.raises(KeyboardInterrupt):
        Trained(tmp_path / "both").run(tiny, stop_at=16 * 8, **fields)
    shutil.rmtree(cache_folder() / "neighbours")
    made = Trained(tmp_path / "both").run(tiny, **fields)
    assert made.draft.figures["resumed_at_step"] == 5
    assert same(made.weights, alone.weights)


def test_further_texts_are_compared_with_the_first(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    near = Targets.near

    def watched(self: Targets, labels: torch.Tensor) -> torch.Tensor:
        seen.append(self.neighbours)
        return near(self, labels)

    monkeypatch.setattr(Targets, "near", watched)
    more = [Part(TEXTS[:60], vectors(tiny), np.arange(60), 0.5)]
    made = Trained(tmp_path).run(tiny, options={"more": more, "share": 0.5}, margin=50.0, negatives=4, epochs=0.5)
    assert max(row for rows in made.rows for row in rows) >= 304
    assert seen[0].shape == (304 + 60, 5)
    assert seen[0].max() < 304


@pytest.mark.parametrize("texts", [3, 16])
def test_too_few_texts_are_refused(texts: int) -> None:
    lessons = Lessons([Part(TEXTS[:texts], units(texts, 4))])
    with pytest.raises(RecipeError) as caught:
        Distil(margin=1.0)._neighbours(lessons, texts)
    assert str(caught.value) == f"distil.negatives = 15: must be at most {texts - 2} for {texts} texts"
    found = Distil(margin=1.0, negatives=texts - 2)._neighbours(lessons, texts)
    assert found is not None
    assert [sorted([i, *row]) for i, row in enumerate(found.tolist())] == [list(range(texts))] * texts
    assert Distil(negatives=15)._neighbours(lessons, texts) is None
