"""Each text's neighbours are those that comparing all finds, and are found once."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressor.distil.training import mining
from compressor.distil.training.mining import mine
from compressor.models.agreement import normalized

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(300, 8)).astype(np.float16)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path))
    return tmp_path / "neighbours"


def mined(vectors: Any = VECTORS, documents: int = 200, count: int = 5) -> list[list[int]]:
    found = mine(lambda numbers: np.asarray(vectors[numbers], np.float32), len(vectors), documents, count)
    assert found.dtype == np.int32
    return [list(map(int, row)) for row in found]


def compared(vectors: Any, among: Any, count: int = 5) -> list[list[int]]:
    """Compare every text with each of the others, in float64."""
    units = normalized(np.asarray(vectors, np.float64))
    rows = []
    for text, own in enumerate(units):
        near = [(-float(own @ units[i]), int(i)) for i in among if i != text]
        rows.append([i for _, i in sorted(near)[:count]])
    return rows


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the texts of each shard that is searched for."""
    searched: list[int] = []
    nearest = mining._Documents.nearest

    def counted(self: Any, own: Any, count: int) -> Any:
        searched.append(len(own))
        return nearest(self, own, count)

    monkeypatch.setattr(mining._Documents, "nearest", counted)
    return searched


def test_neighbours_are_the_nearest_of_the_first_texts() -> None:
    assert mined() == compared(VECTORS, range(200))


def test_shards_and_blocks_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "_SHARD_TEXTS", 64)
    monkeypatch.setattr(mining, "_BLOCK", 10)
    searched = watched(monkeypatch)
    assert mined() == compared(VECTORS, range(200))
    assert searched == [64, 64, 64, 64, 44]


def test_of_many_documents_a_random_part_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "DOCUMENTS", 60)
    drawn = sorted(np.random.default_rng(0).permutation(200)[:60])
    assert max(drawn) > 150
    assert mined() == compared(VECTORS, drawn)


def test_lengths_of_vectors_do_not_count() -> None:
    scales = RANDOM.uniform(0.5, 2.0, size=(300, 1))
    assert mined(VECTORS * scales) == compared(VECTORS * scales, range(200))


def test_texts_of_the_same_vector_are_passed_over() -> None:
    """As translations have their sources': those of 200 to 299 are the first hundred's."""
    vectors = VECTORS.copy()
    vectors[50:57] = vectors[49]  # eight of one vector
    vectors[200:] = vectors[:100]
    found = mined(vectors)
    units = normalized(vectors.astype(np.float32))
    near = np.array([[float(units[text] @ units[i]) for i in row] for text, row in enumerate(found)])
    assert near.max() < 1 - 1e-4
    assert [found[i] for i in range(200, 300)] == [found[i] for i in range(100)]
    assert not {49, *range(50, 57)} & set(found[53])
    outside = [i for i in range(200) if not 49 <= i < 57]
    assert found[53] == compared(vectors, outside)[53]


def test_where_all_are_the_same_there_are_neighbours_still() -> None:
    found = mined(np.ones((12, 4), np.float16), documents=12, count=10)
    assert all(len(set(row)) == 10 and set(row) <= set(range(12)) for row in found)


def test_what_was_found_is_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "_SHARD_TEXTS", 100)
    searched = watched(monkeypatch)
    found = mined()
    assert (len(searched), len(list(cache.iterdir()))) == (3, 3)
    assert mined() == found
    assert len(searched) == 3
    mined(count=4)
    assert len(searched) == 6
    changed = VECTORS.copy()
    changed[250] = -changed[250]  # a query alone: the other shards are as they were
    mined(changed)
    assert len(searched) == 7
    mined(documents=199)
    assert len(searched) == 10


@pytest.mark.parametrize("damage", [b"", b"PK", None])
def test_a_damaged_shard_is_made_again(cache: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None) -> None:
    found = mined()
    (path,) = cache.iterdir()
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(bytes(whole) if damage is None else damage)
    searched = watched(monkeypatch)
    assert mined() == found
    assert searched == [300]
    assert mined() == found
    assert searched == [300]


def test_each_process_begins_with_other_shards(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "_SHARD_TEXTS", 70)  # five, the last of 20
    searched = watched(monkeypatch)
    mined(VECTORS[:140], documents=100)  # as another process has come so far
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert mined(documents=100) == compared(VECTORS, range(100))
    assert searched == [70, 70, 70, 70, 20]
    shutil.rmtree(cache)
    mined(documents=100)
    assert searched[5:] == [70, 70, 20, 70, 70]  # from the third on, then the first two
