"""The teacher's vectors are computed once a shard, whatever the recipe, and are believed only while whole."""

import errno
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import build, sentences

from compressor.core.encoder import Vectors
from compressor.core.errors import ArtifactError, RecipeError, StorageError
from compressor.models import teacher_vectors as vectors
from compressor.models.bulk import BulkEncoder
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import Source, find
from compressor.models.teacher_vectors import VectorStore, dev_of, heldout_of, training_vectors, vectors_of
from compressor.texts.corpus import Corpus, Texts

TEXTS = sentences(47)
SHARD = 10


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vectors, "SHARD_TEXTS", SHARD)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "vectors"


@pytest.fixture
def source(tiny: Path) -> Source:
    return find(str(tiny))


@pytest.fixture
def exact(tiny: Path) -> Vectors:
    """Return the vectors of TEXTS by sentence-transformers' own ``encode``."""
    return TorchEncoder.load(tiny).encode(TEXTS)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of texts of every call of the encoder."""
    counts: list[int] = []
    encode = BulkEncoder.encode

    def counted(self: BulkEncoder, texts: list[str]) -> Vectors:
        counts.append(len(texts))
        return encode(self, texts)

    monkeypatch.setattr(BulkEncoder, "encode", counted)
    return counts


def compute(source: Source, texts: list[str] = TEXTS) -> VectorStore:
    return vectors_of(source, texts, "fp32")


def times(cache: Path) -> dict[str, int]:
    """Return when each shard was written."""
    return {path.name: path.stat().st_mtime_ns for path in cache.glob("*.npy")}


def test_vectors_are_the_encoders_in_half_precision(source: Source, exact: Vectors) -> None:
    kept = compute(source)
    assert (len(kept), kept.shape, kept.dim) == (47, (47, 32), 32)
    every = kept[:]
    assert every.dtype == np.float32
    assert 0 < np.abs(every - exact).max() < 5e-4
    assert np.array_equal(every, every.astype(np.float16))


def test_rows_come_in_the_order_asked_for(source: Source) -> None:
    kept = compute(source)
    every = kept[:]
    for rows in (np.array([46, 0, 9, 10, 10, -1]), [3], np.arange(47, dtype=np.int32)[::-1], []):
        np.testing.assert_array_equal(kept[rows], every[np.asarray(rows, np.int64)])
    for part in (slice(8, 12), slice(-3, None), slice(None, None, 7), slice(5, 5), slice(40, 99)):
        np.testing.assert_array_equal(kept[part], every[part])
    for wrong in ([47], [-48], [0.5], every[:, 0] > 0):
        with pytest.raises(IndexError):
            kept[wrong]


def test_they_stay_on_disk_and_are_opened_when_asked_for(source: Source, cache: Path) -> None:
    kept = compute(source)
    assert [path.parent for path in kept.paths] == [cache] * 5
    assert not kept._maps
    kept[[12, 15]]
    assert list(kept._maps) == [1]
    assert isinstance(kept._maps[1], np.memmap)
    assert not kept._maps[1].flags.writeable
    whole = [np.load(path) for path in kept.paths]  # plain .npy files, for anyone
    assert [rows.shape for rows in whole] == [(10, 32)] * 4 + [(7, 32)]
    assert {rows.dtype for rows in whole} == {np.dtype(np.float16)}


def test_they_are_computed_once(source: Source, seen: list[int], cache: Path) -> None:
    first, written = compute(source)[:], times(cache)
    np.testing.assert_array_equal(compute(source)[:], first)
    assert (seen, times(cache)) == ([10, 10, 10, 10, 7], written)


def test_another_recipe_with_another_limit_takes_the_shards_it_shares(
    source: Source, seen: list[int], cache: Path, tmp_path: Path
) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(sentences(400)))
    large, small = (Texts(source=str(path), limit=limit).load() for limit in (300, 256))
    first = training_vectors(source, large)
    assert sum(seen) == len(large.train) == 240
    written = times(cache)
    seen.clear()
    again = training_vectors(source, small)
    assert seen == [6]  # of 206 texts, 20 shards are there
    assert {name: at for name, at in times(cache).items() if name in written} == written
    np.testing.assert_array_equal(again[:200], first[:200])
    assert again.paths[:20] == first.paths[:20]


def test_another_teacher_precision_or_text_is_computed_anew(source: Source, seen: list[int], tmp_path: Path) -> None:
    compute(source)
    compute(find(str(build(tmp_path / "other", seed=1))))
    vectors_of(source, TEXTS, "bf16")
    assert sum(seen) == 3 * 47
    seen.clear()
    compute(source, [*TEXTS[:15], "the dog", *TEXTS[16:]])
    assert seen == [10]


@pytest.mark.parametrize(
    "damage", ["bit", "last bit", "checksum", "truncated", "longer", "empty", "garbage", "gone", "rows", "kind"]
)
def test_a_damaged_shard_is_computed_again(source: Source, seen: list[int], exact: Vectors, damage: str) -> None:
    path = compute(source).paths[2]
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage in ("rows", "kind"):
        np.save(path, exact[:9].astype(np.float16) if damage == "rows" else exact[:10])
    elif damage in ("bit", "last bit", "checksum"):
        content[{"bit": 300, "last bit": -10, "checksum": -1}[damage]] ^= 1
        path.write_bytes(content)
    else:
        broken = {"truncated": content[:-50], "longer": content + b"x", "empty": b"", "garbage": b"garbage" * 100}
        path.write_bytes(broken[damage])
    seen.clear()
    kept = compute(source)
    assert seen == [10]
    assert np.abs(kept[:] - exact).max() < 5e-4


def test_what_was_open_stays_readable_when_a_shard_is_written_again(source: Source) -> None:
    kept = compute(source)
    before = kept[:]
    damaged = kept.paths[0].with_suffix(".damaged")
    damaged.write_bytes(b"garbage" * 100)
    damaged.replace(kept.paths[0])
    compute(source)
    np.testing.assert_array_equal(kept[:], before)


def test_a_full_disk_is_one_line_and_what_is_done_stays(
    source: Source, seen: list[int], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, done = os.replace, []

    def full(*paths: Any) -> None:
        if len(done) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(paths)
        replace(*paths)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError) as caught:
        compute(source)
    assert re.fullmatch(rf"{re.escape(str(cache))}/[0-9a-f]{{64}}\.npy: no space left on the device", str(caught.value))
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(os, "replace", replace)
    seen.clear()
    compute(source)
    assert seen == [10, 10, 7]


def test_a_cache_that_is_a_file(source: Source, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError, match=r"/cache/vectors: cannot be made, a file is in the way$"):
        compute(source)


_PROCESS = """
import sys, time
from compressor.models import teacher_vectors as vectors
from compressor.models.bulk import BulkEncoder
from compressor.models.source import find
vectors.SHARD_TEXTS = 10
texts = open(sys.argv[2]).read().splitlines()
encode = BulkEncoder.encode
def slow(self, some):
    print(texts.index(some[0]), flush=True)
    time.sleep(float(sys.argv[3]))
    return encode(self, some)
BulkEncoder.encode = slow
kept = vectors.vectors_of(find(sys.argv[1]), texts, "fp32")
print("sum", float(kept[:].sum()))
"""


def process(source: Source, tmp_path: Path, pause: float, **environment: str) -> "subprocess.Popen[str]":
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    return subprocess.Popen(
        [sys.executable, "-c", _PROCESS, str(source.folder), str(tmp_path / "texts.txt"), str(pause)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_after_a_kill_it_goes_on_with_the_shards_that_are_there(
    source: Source, seen: list[int], cache: Path, tmp_path: Path, exact: Vectors
) -> None:
    running = process(source, tmp_path, pause=0.2)
    deadline = time.monotonic() + 120
    while len(times(cache)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    running.kill()
    running.communicate()
    there = len(times(cache))
    assert 2 <= there < 5
    (cache / f".some.npy.partial-0-{running.pid}").write_bytes(b"half a shard")
    assert np.abs(compute(source)[:] - exact).max() < 5e-4
    assert seen == [10, 10, 10, 10, 7][there:]
    assert len(list(cache.iterdir())) == 5  # nothing half-written is left


def test_two_processes_share_the_work(source: Source, cache: Path, tmp_path: Path, exact: Vectors) -> None:
    ranks = [process(source, tmp_path, pause=0.1, RANK=str(rank), WORLD_SIZE="2") for rank in (0, 1)]
    shown = [rank.communicate(timeout=200)[0].splitlines() for rank in ranks]
    assert [lines[:-1] for lines in shown] == [["0", "20", "40"], ["10", "30"]]
    assert shown[0][-1] == shown[1][-1]  # both see all vectors
    assert len(list(cache.iterdir())) == 5
    assert np.abs(compute(source)[:] - exact).max() < 5e-4


def test_two_runs_of_the_same_at_once_both_end_well(source: Source, cache: Path, tmp_path: Path) -> None:
    other = process(source, tmp_path, pause=0.3)
    assert other.stdout is not None
    assert other.stdout.readline() == "0\n"  # it is at work on the first shard, so both write that one
    ours = compute(source)
    shown, _ = other.communicate(timeout=200)
    assert other.returncode == 0
    assert float(shown.split()[-1]) == pytest.approx(float(ours[:].sum()), abs=1e-3)
    assert sorted(cache.iterdir()) == sorted(ours.paths)
    assert all(vectors.Shard(path, count).is_sound() for path, count in zip(ours.paths, [10] * 4 + [7], strict=True))


def test_a_process_waits_no_longer_than_stated(
    source: Source, seen: list[int], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(vectors, "STALL_SECONDS", 0.3)
    monkeypatch.setattr(vectors, "_POLL_SECONDS", 0.1)
    with pytest.raises(ArtifactError) as caught:
        compute(source)
    assert seen == [10, 10, 7]
    message = str(caught.value)
    assert message.startswith(f"{cache}/")
    assert message.endswith(
        ".npy: shard 1 of the teacher's vectors is due from the process of rank 1 and did not come in 0.3 s"
    )


def test_what_one_process_measures_on_it_computes_alone(
    source: Source, seen: list[int], monkeypatch: pytest.MonkeyPatch, cache: Path, exact: Vectors
) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(vectors, "STALL_SECONDS", 0.3)
    corpus = Corpus([], TEXTS[:25], TEXTS, "texts", "", {})
    assert np.abs(heldout_of(source, corpus).teacher - exact).max() < 5e-4
    assert np.abs(dev_of(source, corpus).teacher - exact[:25]).max() < 5e-4
    assert seen == [10, 10, 10, 10, 7, 5]


@pytest.mark.parametrize(
    ("rank", "world", "message"),
    [
        ("x", "2", "environment variable RANK = x: must be a whole number from 0"),
        ("0", "0", "environment variable WORLD_SIZE = 0: must be a whole number from 1"),
        ("2", "2", "environment variable RANK = 2: must be less than WORLD_SIZE = 2"),
    ],
)
def test_places_that_cannot_be(
    source: Source, monkeypatch: pytest.MonkeyPatch, rank: str, world: str, message: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world)
    with pytest.raises(RecipeError) as caught:
        compute(source)
    assert str(caught.value) == message


def corpus() -> Corpus:
    texts = sentences(60)
    return Corpus(texts[:40], [], texts[40:], "here", "fingerprint", {})


def test_of_a_corpus(tiny: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = corpus()
    exact = TorchEncoder.load(tiny).encode([*texts.train, *texts.heldout])
    for fast, bound in ((False, 5e-4), (True, 3e-2)):
        monkeypatch.setattr(vectors, "bf16_is_fast", lambda fast=fast: fast)
        error = np.abs(training_vectors(source, texts)[:] - exact[:40]).max()
        assert bound / 100 < error < bound
    heldout = heldout_of(source, texts)
    assert heldout.texts == texts.heldout
    assert heldout.teacher.dtype == np.float32
    assert np.abs(heldout.teacher - exact[40:]).max() < 5e-4  # in fp32, however fast bf16 is


def test_the_model_is_opened_only_where_vectors_are_missing(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = corpus()
    first = training_vectors(source, texts)[:], heldout_of(source, texts).teacher
    monkeypatch.setattr(BulkEncoder, "load", None)
    np.testing.assert_array_equal(training_vectors(source, texts)[:], first[0])
    np.testing.assert_array_equal(heldout_of(source, texts).teacher, first[1])
    with pytest.raises(TypeError):  # which it would have to open
        training_vectors(Source(source.folder, "another key"), texts)


def test_prompts_of_the_teacher_are_kept_to(tmp_path: Path) -> None:
    folder = build(tmp_path / "model")
    plain = compute(find(str(folder)))[:]
    settings = folder / "config_sentence_transformers.json"

    told = json.loads(settings.read_text()) | {"prompts": {"q": "two red dogs : "}, "default_prompt_name": "q"}
    settings.write_text(json.dumps(told))
    prompted = compute(find(str(folder)))[:]
    assert np.abs(prompted - plain).max() > 0.05
    assert np.abs(prompted - TorchEncoder.load(folder).encode(TEXTS)).max() < 5e-4
