"""The teacher's vectors are computed once, go on where they stopped, and are believed only while whole."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import sentences

from compressor import vectors
from compressor.corpus import Corpus
from compressor.encoder import Vectors
from compressor.errors import ArtifactError, StorageError
from compressor.sentence_model import TorchEncoder
from compressor.stages import Workspace
from compressor.teacher import Source, find
from compressor.vectors import heldout_of, teacher_vectors, training_vectors

TEXTS = [f"text {i}" for i in range(47)]
CHUNK = 10
IDENTITY = ["weights", "fp32", "texts"]


class Counting:
    """An encoder of known vectors that counts its texts, and stops after ``chunks`` calls."""

    dim, max_length = 6, 8

    def __init__(self, chunks: int = 99) -> None:
        self.chunks, self.seen = chunks, 0

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        if not self.chunks:
            raise KeyboardInterrupt
        self.chunks -= 1
        self.seen += len(texts)
        return np.concatenate([expected(text) for text in texts])


def expected(text: str) -> Vectors:
    vector = np.random.default_rng(sum(map(ord, text))).normal(size=(1, 6))
    return (vector / np.linalg.norm(vector)).astype(np.float32)


EXPECTED = np.concatenate([expected(text) for text in TEXTS])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(vectors, "_CHUNK", CHUNK)
    return tmp_path / "cache" / "vectors"


def compute(encoder: Any, texts: Sequence[str] = TEXTS, identity: Sequence[str] = IDENTITY) -> Any:
    return teacher_vectors(encoder, texts, identity)


def interrupted(chunks: int) -> Path:
    """Stop after some chunks and return the folder of what is done."""
    with pytest.raises(KeyboardInterrupt):
        compute(Counting(chunks))
    (partial,) = vectors.cache_folder().glob("vectors/*.partial")
    return partial


def test_vectors_are_the_encoders_in_half_precision() -> None:
    kept = compute(Counting())
    assert (kept.dtype, kept.shape) == (np.float16, (47, 6))
    assert 0 < np.abs(kept.astype(np.float32) - EXPECTED).max() < 5e-4
    np.testing.assert_array_equal(kept, EXPECTED.astype(np.float16))


def test_they_stay_on_disk(cache: Path) -> None:
    kept = compute(Counting())
    assert isinstance(kept, np.memmap)
    assert not kept.flags.writeable
    assert [path.suffix for path in cache.iterdir()] == [".npy"]
    assert Path(kept.filename).parent == cache


def test_they_are_computed_once() -> None:
    first, again = compute(encoder := Counting()), compute(other := Counting())
    assert (encoder.seen, other.seen) == (47, 0)
    np.testing.assert_array_equal(first, again)


def test_another_identity_is_computed_anew(cache: Path) -> None:
    compute(Counting())
    for identity in (["other", "fp32", "texts"], ["weights", "bf16", "texts"], ["weights", "fp32"]):
        compute(encoder := Counting(), identity=identity)
        assert encoder.seen == 47
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("chunks", [1, 3, 4])
def test_an_interrupted_computation_goes_on(cache: Path, chunks: int) -> None:
    interrupted(chunks)
    assert not list(cache.glob("*.npy"))
    kept = compute(encoder := Counting())
    assert encoder.seen == 47 - chunks * CHUNK
    np.testing.assert_array_equal(kept, EXPECTED.astype(np.float16))
    assert [path.suffix for path in cache.iterdir()] == [".npy"]


def test_it_may_be_interrupted_again() -> None:
    interrupted(1)
    interrupted(2)
    compute(encoder := Counting())
    assert encoder.seen == 47 - 3 * CHUNK


def test_before_the_first_chunk_nothing_is_kept() -> None:
    interrupted(0)
    compute(encoder := Counting())
    assert encoder.seen == 47


@pytest.mark.parametrize("damage", ["bit", "truncated", "empty", "garbage", "gone", "shape", "type"])
def test_damaged_rows_are_computed_again(damage: str) -> None:
    rows = interrupted(3) / "rows.npy"
    content = bytearray(rows.read_bytes())
    if damage == "bit":
        content[128 + 2 * 6 * 5] ^= 1
    if damage in ("bit", "truncated", "empty", "garbage"):
        cut = {"truncated": 200, "empty": 0}.get(damage, len(content))
        rows.write_bytes(b"garbage" * 100 if damage == "garbage" else bytes(content[:cut]))
    elif damage == "gone":
        rows.unlink()
    else:
        wrong = EXPECTED[:40] if damage == "shape" else EXPECTED
        np.save(rows, wrong.astype(np.float16 if damage == "shape" else np.float32))
    kept = compute(encoder := Counting())
    assert encoder.seen == 47
    np.testing.assert_array_equal(kept, EXPECTED.astype(np.float16))


@pytest.mark.parametrize(
    "mark",
    ["", "3", "[]", "{}", '{"texts": "many", "crc32": 0}', '{"texts": 47, "crc32": 1}', '{"texts": -10, "crc32": 0}'],
)
def test_a_damaged_mark_is_not_believed(mark: str) -> None:
    (interrupted(3) / "done.json").write_text(mark)
    kept = compute(encoder := Counting())
    assert encoder.seen == 47
    np.testing.assert_array_equal(kept, EXPECTED.astype(np.float16))


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "short"])
def test_a_damaged_file_is_computed_again(cache: Path, damage: str) -> None:
    compute(Counting())
    (path,) = cache.glob("*.npy")
    if damage == "short":
        np.save(path, EXPECTED[:40].astype(np.float16))
    else:
        path.write_bytes({"truncated": path.read_bytes()[:300], "empty": b"", "garbage": b"garbage" * 100}[damage])
    kept = compute(encoder := Counting())
    assert encoder.seen == 47
    np.testing.assert_array_equal(kept, EXPECTED.astype(np.float16))


def test_two_runs_do_not_compute_the_same_vectors_at_once() -> None:
    folder = interrupted(1)
    with Workspace(folder).lock(), pytest.raises(ArtifactError) as caught:
        compute(Counting())
    assert str(caught.value) == f"{folder}: another run is at work in this folder"
    compute(encoder := Counting())
    assert encoder.seen == 47 - CHUNK


def test_a_full_disk_is_found_before_any_work(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(StorageError) as caught:
        compute(encoder := Counting())
    assert str(caught.value) == f"{cache}: no space left on the device"
    assert encoder.seen == 0
    assert not list(cache.rglob("*.npy"))


def test_the_file_is_written_out_before_it_is_mapped() -> None:
    """A hole in a mapped file that the disk cannot fill is a SIGBUS, which no one can catch."""
    with pytest.raises(KeyboardInterrupt):
        compute(Counting(0), ["text"] * 5000)
    (rows,) = vectors.cache_folder().glob("vectors/*.partial/rows.npy")
    assert rows.stat().st_size == 128 + 2 * 5000 * 6
    assert rows.stat().st_blocks * 512 >= rows.stat().st_size


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(StorageError, match=r"/cache/vectors/\w+\.partial: cannot be made, a file is in the way$"):
        compute(Counting())


def corpus() -> Corpus:
    texts = sentences(60)
    return Corpus(texts[:40], texts[40:], "here", "fingerprint", {})


def test_of_a_teacher(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, texts = find(str(tiny)), corpus()
    exact = TorchEncoder.load(tiny).encode(texts.train + texts.heldout)
    for fast, bound in ((False, 5e-4), (True, 3e-2)):
        monkeypatch.setattr(vectors, "bf16_is_fast", lambda fast=fast: fast)
        error = np.abs(training_vectors(source, texts).astype(np.float32) - exact[:40]).max()
        assert bound / 100 < error < bound
    heldout = heldout_of(source, texts)
    assert heldout.texts == texts.heldout
    assert heldout.teacher.dtype == np.float32
    assert np.abs(heldout.teacher - exact[40:]).max() < 5e-4  # in fp32, however fast bf16 is


def test_of_a_teacher_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, texts = find(str(tiny)), corpus()
    first = training_vectors(source, texts), heldout_of(source, texts).teacher
    monkeypatch.setattr(TorchEncoder, "load", None)
    np.testing.assert_array_equal(training_vectors(source, texts), first[0])
    np.testing.assert_array_equal(heldout_of(source, texts).teacher, first[1])
    with pytest.raises(TypeError):  # which it would have to open
        training_vectors(Source(source.folder, "another key"), texts)


def test_marks_are_json_that_says_what_is_done() -> None:
    done = json.loads((interrupted(2) / "done.json").read_text())
    assert done["texts"] == 2 * CHUNK
    assert set(done) == {"texts", "crc32"}
