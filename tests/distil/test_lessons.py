"""Each text comes once an epoch, or by its share, in an order of seed and epoch, without a list of all texts."""

import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from builders import sentences

from compressor.core.errors import TextError
from compressor.distil.training.lessons import Lessons, Part
from compressor.distil.training.trainer import LengthGroupedBatches

RANDOM = np.random.default_rng(0)
TEXTS = ["x" * int(n) for n in RANDOM.integers(3, 60, 5003)]
VECTORS = RANDOM.normal(size=(5003, 4)).astype(np.float16)


def lessons(count: int = len(TEXTS)) -> Lessons:
    return Lessons([Part(TEXTS[:count], VECTORS[:count])])


def epoch_of(made: Lessons, size: int = 100, epoch: int = 0, seed: int = 0) -> list[int]:
    return np.concatenate(list(made.blocks(size, epoch, seed))).tolist()


@pytest.mark.parametrize("counts", [(1,), (1000,), (64, 65), (10, 1, 700)])
def test_every_text_comes_once_an_epoch(counts: tuple[int, ...]) -> None:
    made = Lessons([Part(TEXTS[:n], VECTORS[:n]) for n in counts])
    assert len(made) == sum(counts)
    assert sorted(epoch_of(made)) == list(range(sum(counts)))
    assert all(len(block) == 100 for block in list(made.blocks(100, 0, 0))[:-1])


def test_parts_without_shares_are_mixed_evenly() -> None:
    made = Lessons([Part(TEXTS[:1000], VECTORS[:1000]), Part(TEXTS[:3000], VECTORS[:3000])])
    counts = [int((block < 1000).sum()) for block in made.blocks(100, 0, 0)]
    assert set(counts) == {25}


def test_shares_are_kept_exactly_and_a_short_part_begins_anew() -> None:
    made = Lessons([Part(TEXTS[:90], VECTORS[:90], share=0.3), Part(TEXTS[:910], VECTORS[:910], share=0.7)])
    blocks = list(made.blocks(100, 0, 0))
    assert [(int((b < 90).sum()), len(b)) for b in blocks] == [(30, 100)] * 10
    short = [int(i) for block in blocks for i in block if i < 90]
    assert [sorted(short[i : i + 90]) for i in (0, 90, 180)] == [list(range(90))] * 3
    assert len({i for block in blocks for i in block.tolist() if i >= 90}) == 700


def test_the_order_follows_seed_and_epoch_alone() -> None:
    made = [epoch_of(lessons(), epoch=e, seed=s) for e, s in [(0, 0), (1, 0), (0, 1), (1, 1)]]
    assert all(one != other for i, one in enumerate(made) for other in made[:i])
    np.random.seed(5)  # noqa: NPY002 - what others draw must not matter
    again = lessons()
    epoch_of(again, epoch=7)
    assert epoch_of(again, epoch=1) == made[1]


def test_texts_and_vectors_are_found_by_their_number() -> None:
    rows = np.array([4, 4, 0])
    made = Lessons([Part(TEXTS[:2], VECTORS), Part([], VECTORS), Part(["a", "b", "c"], VECTORS, rows)])
    assert made[0:5] == [*TEXTS[:2], "a", "b", "c"]
    assert made[-1] == "c"
    assert made.shape == (5, 4)
    wanted = VECTORS[[0, 4, 1, 4]].astype(np.float32)
    np.testing.assert_array_equal(made.vectors(np.array([4, 2, 1, 3])), wanted)
    assert made.lengths(np.array([0, 2])).tolist() == [len(TEXTS[0]), 1]
    with pytest.raises(IndexError):
        made[5]


def test_no_texts_are_refused() -> None:
    with pytest.raises(TextError, match=r"^no texts to train on$"):
        Lessons([Part([], VECTORS)])


class Many(Sequence[str]):
    """Two million texts that lie nowhere; counts what is asked for."""

    asked = 0

    def __len__(self) -> int:
        return 2_000_000

    def __getitem__(self, index: Any) -> Any:
        self.asked += 1
        return f"text {index}"


def test_many_texts_cost_little_memory_and_are_not_all_read() -> None:
    texts = Many()
    tracemalloc.start()
    start = time.monotonic()
    made = Lessons([Part(texts, VECTORS)])
    batches = LengthGroupedBatches(made, 32, 0)
    batch = next(iter(batches))
    seconds, peak = time.monotonic() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(batch) == 32
    assert texts.asked == 50 * 32  # one pool
    assert peak < 4e6  # a list of two million numbers would take 16 MB
    assert seconds < 2
    assert len(batches) == 62_500


LENGTHS = lessons().lengths(np.arange(len(TEXTS)))


def batches(epoch: int = 0, seed: int = 0, count: int = len(TEXTS), parts: int = 1) -> list[list[int]]:
    sampler = LengthGroupedBatches(lessons(count), 16, seed, parts)
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


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_make_up_the_same_batches(parts: int) -> None:
    """What processes and parts of a step compute is one step's texts."""
    made = batches(parts=parts)
    assert [sum(made[i : i + parts], []) for i in range(0, len(made), parts)] == batches()


def test_no_part_of_a_short_batch_is_empty() -> None:
    assert sorted(map(len, batches(count=17, parts=4))) == [1] * 4 + [4] * 4


def test_batches_hold_little_padding() -> None:
    order = np.random.default_rng(1).permutation(len(LENGTHS))
    shuffled = [order[i : i + 16].tolist() for i in range(0, len(order), 16)]
    assert 0 < padding(batches()) < 0.1 * padding(shuffled)


def test_short_and_long_batches_take_turns() -> None:
    means = [LENGTHS[rows].mean() for rows in batches()]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.2


def test_lengths_are_bytes() -> None:
    made = Lessons([Part(["aé", *sentences(2)], VECTORS)])
    assert made.lengths(np.array([0])).tolist() == [3]
