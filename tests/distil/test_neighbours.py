"""Similar texts come into a batch together, each text once."""

from pathlib import Path

import numpy as np
from trained import TEXTS, Trained

from compressor.distil.training.lessons import Lessons, Part
from compressor.distil.training.neighbours import grouped
from compressor.distil.training.trainer import LengthGroupedBatches
from compressor.models.agreement import normalized


def related(rows: np.ndarray, units: np.ndarray) -> float:
    """Return the mean similarity of a batch's texts to each other."""
    near = units[rows] @ units[rows].T
    return float(near[np.triu_indices(len(rows), 1)].mean())


def test_clusters_are_found() -> None:
    random = np.random.default_rng(0)
    topics = np.repeat(random.normal(size=(8, 16)), 4, axis=0)
    shuffled = random.permutation(32)
    made = (topics + 0.05 * random.normal(size=(32, 16)))[shuffled].astype(np.float32)
    order = grouped(made, 4, random)
    assert sorted(order) == list(range(32))
    groups = (shuffled[order] // 4).reshape(8, 4)
    assert (groups == groups[:, :1]).all()
    assert len(set(groups[:, 0])) == 8


def test_what_does_not_divide_is_left_over() -> None:
    order = grouped(np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32), 4, np.random.default_rng(0))
    assert sorted(order) == list(range(10))
    assert len(grouped(np.zeros((0, 4), np.float32), 4, np.random.default_rng(0))) == 0


def test_batches_hold_related_texts() -> None:
    random = np.random.default_rng(0)
    made = random.normal(size=(40, 16))[random.integers(40, size=len(TEXTS))]
    units = normalized((made + 0.1 * random.normal(size=made.shape)).astype(np.float32))
    lessons = Lessons([Part(TEXTS, units)])
    mean = {}
    for similar in (1, 4):
        batches = list(LengthGroupedBatches(lessons, 16, 0, similar=similar))
        assert sorted(i for batch in batches for i in batch) == list(range(len(TEXTS)))
        whole = [np.array(batch) for batch in batches if len(batch) == 16]
        mean[similar] = np.mean([related(batch, units) for batch in whole])
    assert mean[4] > mean[1] + 0.1


def test_each_text_is_still_seen_once_an_epoch(tiny: Path, tmp_path: Path) -> None:
    plain, beside = (Trained(tmp_path / str(n)).run(tiny, epochs=1.0, similar=n, pairwise=0.3) for n in (1, 4))
    seen = [sorted(i for rows in one.rows for i in rows) for one in (plain, beside)]
    assert seen[0] == seen[1]
    assert plain.rows != beside.rows
