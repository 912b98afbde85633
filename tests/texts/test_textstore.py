"""Texts on disk read like a list; cleaning, deduplication and mixing are exact, and need no more memory for more."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compressor.core import cache
from compressor.core.errors import TextError
from compressor.core.files import partial, this_machine
from compressor.texts import mixing
from compressor.texts.mixing import Buckets, clean, mix, turns
from compressor.texts.reading import Reading
from compressor.texts.textstore import TextStore, TextWriter, digest_of, kept_store

TEXTS = ["first", "zweiter Satz – länger", "", "日本語", "last one"]


def write(folder: Path, texts: list[str], labels: list[int] | None = None) -> TextStore:
    with TextWriter(folder) as writer:
        for text, label in zip(texts, labels or [0] * len(texts), strict=True):
            writer.add(text.encode(), label)
    return TextStore(folder)


def reading(texts: list[str], name: str = "texts", size: int | None = None) -> Reading:
    return Reading(name, name, sum(map(len, texts)) if size is None else size, lambda: texts)


def mixed(folder: Path, *sources: list[str], weights: Any = None, seed: int = 0) -> tuple[TextStore, dict[str, int]]:
    readings = [reading(texts, f"source {i}") for i, texts in enumerate(sources)]
    folder.mkdir(parents=True)
    noted = mix(readings, weights, seed, folder)
    return TextStore(folder), noted["dropped"]


def test_a_store_reads_like_a_list(tmp_path: Path) -> None:
    store = write(tmp_path / "store", TEXTS)
    assert len(store) == 5
    assert list(store) == TEXTS
    assert [store[i] for i in (0, 1, -1, np.int64(2))] == ["first", TEXTS[1], "last one", ""]
    for part in (slice(1, 3), slice(None), slice(-2, None), slice(4, 1), slice(3, 99), slice(None, None, -2)):
        assert store[part] == TEXTS[part]
    assert store.lengths.tolist() == [len(text.encode()) for text in TEXTS]
    for row in (5, -6):
        with pytest.raises(IndexError):
            store[row]


def test_the_first_texts_are_a_store_of_their_own(tmp_path: Path) -> None:
    first = write(tmp_path / "store", TEXTS).first(2)
    assert (list(first), len(first), first[-1], first[1:9]) == (TEXTS[:2], 2, TEXTS[1], TEXTS[1:2])
    assert len(first.lengths) == 2
    with pytest.raises(IndexError):
        first[2]


def test_files_are_memory_maps_of_the_stated_kinds(tmp_path: Path) -> None:
    store = write(tmp_path / "store", TEXTS)
    offsets = np.load(tmp_path / "store" / "offsets.npy")
    assert (offsets.dtype, offsets.tolist()) == (np.uint64, [0, *np.cumsum(store.lengths).tolist()])
    assert (tmp_path / "store" / "texts.utf8").read_bytes().decode() == "".join(TEXTS)
    assert isinstance(store.lengths, np.memmap)
    assert not store.lengths.flags.writeable


def test_flushed_in_parts_the_files_and_the_fingerprint_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write(tmp_path / "whole", TEXTS * 50)
    monkeypatch.setattr("compressor.texts.textstore._FLUSH_BYTES", 30)
    monkeypatch.setattr("compressor.texts.textstore._ROWS", 7)
    parts = write(tmp_path / "parts", TEXTS * 50)
    assert list(parts) == list(whole)
    assert parts.fingerprint == whole.fingerprint != write(tmp_path / "other", TEXTS[::-1] * 50).fingerprint


def test_texts_are_counted_by_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.texts.textstore._ROWS", 2)
    store = write(tmp_path / "store", TEXTS, [0, 2, 2, 0, 1])
    assert store.per_label(slice(None), 4) == [2, 1, 2, 0]
    assert store.per_label(slice(1, 3), 3) == [0, 0, 2]


def test_a_list_and_a_store_have_the_same_digest(tmp_path: Path) -> None:
    store = write(tmp_path / "store", TEXTS)
    assert digest_of(store, 1, 4) == digest_of(TEXTS, 1, 4) != digest_of(TEXTS, 1, 5)
    assert digest_of(store.first(3), 1, 4) == digest_of(TEXTS[:3], 1, 4) == digest_of(TEXTS, 1, 3)
    assert digest_of(["ab", "c"], 0, 2) != digest_of(["a", "bc"], 0, 2)


def test_a_kept_store_is_built_once_and_again_when_damaged(tmp_path: Path) -> None:
    built = []

    def build(folder: Path) -> dict[str, Any]:
        built.append(folder)
        write(folder, TEXTS)
        return {"noted": 7}

    to = tmp_path / "deep" / "store"
    for damaged, times in ((None, 1), (None, 1), ("texts.utf8", 2), ("lengths.u32", 3), ("meta.json", 4)):
        if damaged:
            (to / damaged).write_bytes((to / damaged).read_bytes()[:-4])
        store = kept_store(to, build)
        assert (list(store), store.meta["noted"], len(built)) == (TEXTS, 7, times)
    assert list(to.parent.iterdir()) == [to]


def test_what_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        write(folder, TEXTS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_store(tmp_path / "store", build)
    assert not list(tmp_path.iterdir())


def test_of_two_processes_the_first_to_end_is_kept(tmp_path: Path) -> None:
    def build(folder: Path) -> dict[str, Any]:
        write(tmp_path / "store", ["from another process"])
        write(folder, TEXTS)
        return {}

    assert list(kept_store(tmp_path / "store", build)) == ["from another process"]
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_leftovers_of_dead_processes_are_removed(tmp_path: Path) -> None:
    ours = partial(tmp_path / "store")
    ours.mkdir()
    (tmp_path / ".store.partial-0-4194999").mkdir()
    (tmp_path / ".one.npy.partial-0-4194999").write_text("")
    cache.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [ours]


def test_drafts_of_another_machine_stay_for_a_week(tmp_path: Path) -> None:
    name = partial(tmp_path / "one.npy").name.replace(this_machine(), "0123abcd").rpartition("-")[0]
    fresh, old = (tmp_path / f"{name}-{number}" for number in (4194998, 4194999))  # no process of this machine
    for draft in (fresh, old):
        draft.write_text("")
    os.utime(old, (time.time() - 8 * 86_400,) * 2)
    cache.remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [fresh]
    cache.remove_leftovers(tmp_path, alone=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (" a\t b\u00a0\u2028c \r\n", "a b c"),
        ("\ufeffa\x00b\x1b[0m \x07 c\x9f", "ab[0m c"),
        ("half \ud83d surrogate", "half surrogate"),
        ("co\u200dmposed 👩\u200d🔬", "co\u200dmposed 👩\u200d🔬"),
        ("\x07 \t", ""),
    ],
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_texts_without_a_letter_or_digit_are_dropped(tmp_path: Path) -> None:
    store, dropped = mixed(tmp_path / "store", ["...", "_ - _", "你好", "7", "a", " ", "\x00", "a", "👍"])
    assert sorted(store) == ["7", "a", "你好"]
    assert dropped == {"empty": 2, "wordless": 3, "duplicate": 1}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a few thousand texts fill many files, and files are spread again."""
    monkeypatch.setattr(mixing, "PENDING_BYTES", 3000)
    monkeypatch.setattr(mixing, "BUCKET_BYTES", 4000)


@pytest.mark.usefixtures("small")
def test_duplicates_are_found_across_buckets(tmp_path: Path) -> None:
    texts = [f"text {i % 700}" for i in range(3000)]
    store, dropped = mixed(tmp_path / "store", texts)
    assert sorted(store) == sorted(set(texts))
    assert dropped == {"empty": 0, "wordless": 0, "duplicate": 2300}


def test_the_order_does_not_depend_on_how_texts_were_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {i}" for i in range(2000)]
    whole, _ = mixed(tmp_path / "whole", texts)
    for pending, bucket, size in ((3000, 4000, 0), (10**6, 10**9, 10**12), (2500, 1500, 1)):
        monkeypatch.setattr(mixing, "PENDING_BYTES", pending)
        monkeypatch.setattr(mixing, "BUCKET_BYTES", bucket)
        folder = tmp_path / f"spread-{pending}"
        folder.mkdir()
        mix([reading(texts[::-1], size=size)], None, 0, folder)
        assert list(TextStore(folder)) == list(whole)
        assert not list(folder.glob("buckets*"))
    assert list(mixed(tmp_path / "other", texts, seed=1)[0]) != list(whole)
    later = list(mixed(tmp_path / "later", [*texts, "one more"])[0])
    assert [text for text in later if text != "one more"] == list(whole)
    assert abs(np.corrcoef([int(text[5:]) for text in whole], range(2000))[0, 1]) < 0.1


@pytest.mark.usefixtures("small")
def test_one_text_repeated_without_end_ends(tmp_path: Path) -> None:
    store, dropped = mixed(tmp_path / "store", ["again and again"] * 20_000 + ["once"])
    assert sorted(store) == ["again and again", "once"]
    assert dropped["duplicate"] == 19_999


def test_texts_of_one_rank_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixing, "_ranks", lambda texts, seed: np.full(len(texts), 5, np.uint64))
    monkeypatch.setattr(mixing, "PENDING_BYTES", 100)
    buckets = Buckets(tmp_path / "buckets", seed=0, bits=2)
    for text in (b"a", b"b", b"a", b"c", b"b", b"a"):
        buckets.add(text, 0)
    assert sorted(text for text, _ in buckets.sorted()) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("weights", [(3.0, 1.0), (0.5, 0.5), (0.123, 0.877), (1.0, 2.0, 4.0), (5.0, 1.0, 1.0, 1.0)])
def test_turns_keep_the_proportion_at_every_point(weights: tuple[float, ...]) -> None:
    shares = np.array(weights) / sum(weights)
    taken = np.zeros(len(weights))
    for turn, source in enumerate(turns(weights, [10**6] * len(weights)), start=1):
        taken[source] += 1
        assert np.abs(taken - shares * turn).max() < 1.001
        if turn == 3000:
            break


def test_weights_are_kept_until_a_source_is_used_up(tmp_path: Path) -> None:
    long, short = [f"long {i}" for i in range(1000)], [f"short {i}" for i in range(100)]
    store, dropped = mixed(tmp_path / "store", long, short, weights=(3.0, 1.0))
    kinds = [text.split()[0] for text in store]
    assert Counter(kinds) == {"long": 302, "short": 100}  # the 403rd turn is a short one
    assert all(Counter(kinds[:n])["long"] == n * 3 // 4 for n in range(0, 401, 4))
    assert dropped["surplus"] == 698
    assert store.per_label(slice(None), 2) == [302, 100]
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == sorted(
        ["texts.utf8", "lengths.u32", "labels.u16", "offsets.npy", "meta.json"]
    )
    # in random order within a source
    assert [text for text in store if text.startswith("short")] != short


@pytest.mark.usefixtures("small")
def test_without_weights_every_text_of_every_source_is_there_once(tmp_path: Path) -> None:
    one, two = [f"text {i}" for i in range(1000)], [f"text {i}" for i in range(900, 1300)]
    store, dropped = mixed(tmp_path / "store", one, two)
    assert sorted(store) == sorted({*one, *two})
    assert store.per_label(slice(None), 2) == [1000, 300]  # what both have counts for the first
    assert dropped["duplicate"] == 100


def test_a_source_with_nothing_of_its_own_cannot_be_mixed_in(tmp_path: Path) -> None:
    with pytest.raises(TextError) as caught:
        mixed(tmp_path / "store", ["a", "b"], ["b", "a"], weights=(1.0, 1.0))
    assert str(caught.value) == "source 1: no text of its own to mix in"


_PEAK = """
import json, sys, tracemalloc
from pathlib import Path
from compressor.texts import mixing
from compressor.texts import textstore
from compressor.texts.corpus import Texts
mixing.PENDING_BYTES = mixing.BUCKET_BYTES = 1 << 17
textstore._FLUSH_BYTES, textstore._ROWS = 1 << 14, 1 << 10
Texts(source=sys.argv[2]).load()  # imports, regular expressions
tracemalloc.start()
corpus = Texts(source=sys.argv[1], heldout=100).load()
for text in corpus.train: pass
for start in range(0, len(corpus.train), 1024): textstore.digest_of(corpus.train, start, start + 1024)
print(json.dumps([len(corpus.train), tracemalloc.get_traced_memory()[1]]))
"""


@pytest.mark.slow
def test_twenty_times_the_lines_need_no_more_memory(tmp_path: Path) -> None:
    peaks, first = {}, tmp_path / "first.txt"
    first.write_text("".join(f"First {i}.\n" for i in range(300)))
    for count in (8_000, 160_000):
        path = tmp_path / f"{count}.txt"
        path.write_text("".join(f"Sentence number {i % (count - 9)} stands in this file.\n" for i in range(count)))
        command = [sys.executable, "-c", _PEAK, str(path), str(first)]
        environment = _environment(tmp_path / f"cache-{count}")
        shown = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        read, peaks[count] = json.loads(shown.stdout)
        assert read == count - 9 - 200
    # The larger file is hashed in blocks of 1 MiB, the smaller has less than one. As Python's strings the larger
    # one's texts are 15 MB.
    assert peaks[160_000] < peaks[8_000] + 1_000_000
    assert peaks[160_000] < 2_500_000


def _environment(folder: Path) -> dict[str, str]:
    import os

    return {**os.environ, "COMPRESSOR_CACHE": str(folder), "PYTHONPATH": str(Path(__file__).parents[2])}
