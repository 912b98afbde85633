"""Texts are cleaned, counted and split the same way every time; what cannot be read is refused."""

import gzip
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from compressor.corpus import MIN_TEXTS, Corpus, Texts
from compressor.errors import RecipeError, TextError

NUMBERED = [f"Sentence number {i} stands here." for i in range(1000)]


def write(path: Path, texts: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


def load(path: Path, texts: list[str] = NUMBERED, **fields: Any) -> Corpus:
    return Texts(source=str(write(path / "texts.txt", texts)), **fields).load()


def fault(texts: Texts, base: Path | None = None) -> str:
    with pytest.raises(TextError) as caught:
        texts.load(base)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_cleaning_collapses_whitespace_and_counts_what_it_drops(tmp_path: Path) -> None:
    dirty = [
        "\ufeff  Sentence number\t0   stands here. ",
        "",
        " \u00a0 ",
        NUMBERED[1],
        *NUMBERED,
        "Naïve façade.",
    ]
    corpus = load(tmp_path, dirty)
    assert corpus.dropped == {"empty": 2, "duplicate": 2}
    assert sorted(corpus.train + corpus.heldout) == sorted([*NUMBERED, "Naïve façade."])


def test_only_line_feeds_end_a_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes("\r\n".join(["One\u2028two\x85three.", *NUMBERED]).encode())
    corpus = Texts(source=str(path)).load()
    assert "One two three." in corpus.train + corpus.heldout
    assert len(corpus.train) + len(corpus.heldout) == 1001


@pytest.mark.parametrize(("wanted", "taken"), [(20, 20), (100, 100), (2000, 100)])
def test_at_most_a_tenth_is_held_out(tmp_path: Path, wanted: int, taken: int) -> None:
    corpus = load(tmp_path, heldout=wanted)
    assert (len(corpus.heldout), len(corpus.train)) == (taken, 1000 - taken)
    assert not set(corpus.heldout) & set(corpus.train)
    assert corpus.train == [text for text in NUMBERED if text in set(corpus.train)]
    assert corpus.heldout == [text for text in NUMBERED if text in set(corpus.heldout)]
    assert corpus.heldout != NUMBERED[:taken]


def test_limit_chooses_by_seed_and_keeps_order(tmp_path: Path) -> None:
    few, more, other = (load(tmp_path, limit=n, seed=s) for n, s in [(200, 0), (300, 0), (200, 1)])
    chosen = [set(corpus.train + corpus.heldout) for corpus in (few, more, other)]
    assert [len(texts) for texts in chosen] == [200, 300, 200]
    assert chosen[0] < chosen[1]
    assert len(chosen[0] & chosen[2]) < 80  # 40 expected of two independent choices
    assert few.train == sorted(few.train, key=NUMBERED.index)
    assert load(tmp_path, limit=5000).train == load(tmp_path).train


def test_fingerprint_depends_on_texts_order_and_split(tmp_path: Path) -> None:
    seen = {
        load(tmp_path).fingerprint,
        load(tmp_path, seed=1).fingerprint,
        load(tmp_path, heldout=50).fingerprint,
        load(tmp_path, NUMBERED[::-1]).fingerprint,
        load(tmp_path, NUMBERED[:-1]).fingerprint,
    }
    assert len(seen) == 5
    assert load(tmp_path / "elsewhere").fingerprint in seen
    # pinned: a changed split or hash would make recorded corpora look new
    assert load(tmp_path).fingerprint.startswith("ffa55b1cad10ca01")


def test_gzip_and_plain_are_the_same_corpus_and_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    write(tmp_path / "data/texts.txt", NUMBERED)
    (tmp_path / "data/texts.txt.gz").write_bytes(gzip.compress("\n".join(NUMBERED).encode()))
    plain, packed = (Texts(source=f"data/texts.{end}").load(tmp_path) for end in ("txt", "txt.gz"))
    assert plain.fingerprint == packed.fingerprint
    assert (plain.source, packed.source) == ("data/texts.txt", "data/texts.txt.gz")


def cut_off(data: bytes) -> bytes:
    return gzip.compress(data)[:-20]


def damaged(data: bytes) -> bytes:
    packed = bytearray(gzip.compress(data))
    packed[-5] ^= 0xFF  # in the checksum
    return bytes(packed)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("latin.txt", "gut\nschön\n".encode("latin-1"), "{path}: line 2, byte 4 (0xf6) is not UTF-8"),
        ("binary.txt", b"abc\n\0\1\n", "{path}: line 2 holds a NUL byte; this is a binary file"),
        ("wide.txt", "Hello.\n".encode("utf-16"), "{path}: line 1 holds a NUL byte; this is a binary file"),
        ("long.txt", b"a" * 2**21, "{path}: line 1 is longer than 1048576 bytes; one text a line"),
        ("empty.txt", b"", "{path}: empty, holds no text"),
        ("blank.txt", b"\n \n\t\n", "{path}: empty, holds no text"),
        ("one.txt", b"One sentence.\n", "{path}: 1 distinct text; at least 200 are needed"),
        ("same.txt", b"A.\nB.\n" * 500, "{path}: 2 distinct texts; at least 200 are needed"),
        ("cut.txt.gz", cut_off(b"Some text.\n" * 99), "{path}: the gzip file is cut off"),
        ("plain.txt.gz", b"Some text.\n", "{path}: not a sound gzip file (Not a gzipped file (b'So'))"),
        (
            "pairs.csv",
            b"a,b,3.0\n",
            "{path}: a .csv file is no text file; give one text a line, plain or .gz",
        ),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert fault(Texts(source=str(path))) == message.format(path=path)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.txt.gz"
    path.write_bytes(damaged("\n".join(NUMBERED).encode()))
    assert fault(Texts(source=str(path))).startswith(f"{path}: not a sound gzip file (CRC check failed")


def test_paths_that_are_refused(tmp_path: Path) -> None:
    assert fault(Texts(source="no.txt"), tmp_path) == f"{tmp_path}/no.txt: no such file"
    assert fault(Texts(source="./no"), tmp_path) == f"{tmp_path}/no: no such file"
    assert fault(Texts(source="a/b/c"), tmp_path) == f"{tmp_path}/a/b/c: no such file"
    assert fault(Texts(source=str(tmp_path))) == f"{tmp_path}: a folder, not a text file"


def test_too_small_a_limit_is_named(tmp_path: Path) -> None:
    write(tmp_path / "texts.txt", NUMBERED)
    message = fault(Texts(source="texts.txt", limit=40), tmp_path)
    assert message == "texts.txt with limit = 40: 40 distinct texts; at least 200 are needed"
    exact = Texts(source="texts.txt", limit=MIN_TEXTS).load(tmp_path)
    assert (len(exact.train), len(exact.heldout)) == (180, 20)


def test_a_column_belongs_to_a_data_set(tmp_path: Path) -> None:
    write(tmp_path / "texts.txt", NUMBERED)
    message = fault(Texts(source="texts.txt", column="a"), tmp_path)
    assert message == "texts.txt: column = a: only data sets have columns"
    assert fault(Texts(column="a")) == "docstrings: column = a: only data sets have columns"


@pytest.mark.parametrize(("field", "value", "least"), [("limit", 0, 1), ("heldout", 19, 20)])
def test_ranges_are_checked_when_the_recipe_is_read(field: str, value: int, least: int) -> None:
    with pytest.raises(RecipeError) as caught:
        Texts.read({field: value}, "recipe.toml: texts")
    expected = f"recipe.toml: texts: {field} = {value}: input should be greater than or equal to {least}"
    assert str(caught.value) == expected


class Rows(dict[str, list[str | None]]):
    """A data set of three columns, as far as texts look at one."""

    features = {
        name: types.SimpleNamespace(dtype=kind)
        for name, kind in [("id", "int64"), ("anchor", "string"), ("answer", "large_string")]
    }


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stand in for ``datasets``; the list holds what was asked for."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, split: str) -> Rows:
        calls.append((name, config, split))
        if name == "no/such":
            raise ConnectionError("could not reach\nthe hub")
        return Rows(id=[], anchor=[*NUMBERED, None], answer=[text.upper() for text in NUMBERED])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return calls


def test_data_sets_give_their_first_text_column_or_the_named_one(asked: list[tuple[Any, ...]]) -> None:
    first = Texts(source="org/name", split="dev").load()
    named = Texts(source="org/name:pair", column="answer").load()
    assert asked == [("org/name", None, "dev"), ("org/name", "pair", "train")]
    assert first.dropped == {"empty": 1, "duplicate": 0}
    assert first.train[0].startswith("Sentence number")
    assert named.train[0].startswith("SENTENCE NUMBER")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "no/such"}, "no/such: no file, and as a data set not to be had: could not reach the hub"),
        (
            {"source": "a/b", "column": "id"},
            "a/b: column = id: no such text column; there are: anchor, answer",
        ),
    ],
)
def test_data_sets_that_are_refused(asked: list[Any], fields: dict[str, Any], message: str) -> None:
    assert fault(Texts(**fields)) == message


def test_a_data_set_without_text_is_refused(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rows, "features", {"id": types.SimpleNamespace(dtype="int64")})
    assert fault(Texts(source="a/b")) == "a/b: no text column; there are: id"


def test_this_environment_gives_texts_at_once() -> None:
    corpus = Texts(limit=500).load()
    assert (len(corpus.train), len(corpus.heldout), corpus.source) == (450, 50, "docstrings")
    assert corpus.fingerprint == Texts(limit=500).load().fingerprint
