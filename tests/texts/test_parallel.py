"""Parallel texts are read pair by pair, cleaned and counted; halves that do not match are refused."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from compressor.core.errors import RecipeError, TextError
from compressor.texts.parallel import Parallel, ParallelTexts

ENGLISH = [f"Sentence number {i} stands here." for i in range(40)]
GERMAN = [f"Satz Nummer {i} steht schön hier." for i in range(40)]


def write(path: Path, lines: list[str], encoding: str = "utf-8") -> str:
    data = "".join(f"{line}\n" for line in lines).encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path.name


def paired(folder: Path, left: list[str] = ENGLISH, right: list[str] = GERMAN, **fields: Any) -> ParallelTexts:
    names = write(folder / "a.en", left), write(folder / "a.de", right)
    return Parallel(pairs=(names,), **fields).load(folder)


def fault(base: Path, *pairs: tuple[str, ...], **fields: Any) -> str:
    with pytest.raises(TextError) as caught:
        Parallel(pairs=pairs, **fields).load(base)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{base}/", "")


def test_the_shapes_give_the_same_pairs(tmp_path: Path) -> None:
    both = list(zip(ENGLISH, GERMAN, strict=True))
    plain = write(tmp_path / "p.en", ENGLISH), write(tmp_path / "p.de", GERMAN)
    packed = write(tmp_path / "p.en.gz", ENGLISH), write(tmp_path / "p.de.gz", GERMAN)
    tabs = (write(tmp_path / "p.tsv", [f"{a}\t{b}" for a, b in both]),)
    columns = tuple(
        write(tmp_path / name, [f'x,"{a}",{b},1.5' for a, b in zip(texts[::2], texts[1::2], strict=True)])
        for name, texts in (("p-en.csv", ENGLISH), ("p-de.csv", GERMAN))
    )
    cells = tuple(
        write(tmp_path / name, [f"x\t{a}\t{b}" for a, b in zip(texts[::2], texts[1::2], strict=True)])
        for name, texts in (("q-en.tsv", ENGLISH), ("q-de.tsv.gz", GERMAN))
    )
    made = [Parallel(pairs=(names,)).load(tmp_path) for names in (plain, packed, tabs)]
    made += [Parallel(pairs=(pair,), columns=(1, 2)).load(tmp_path) for pair in (columns, cells)]
    assert all(list(zip(m.sources, m.translations, strict=True)) == both for m in made)
    assert {m.key for m in made} == {made[0].fingerprint}
    assert Parallel(pairs=(plain, packed, tabs)).load(tmp_path).dropped["duplicate"] == 80


def test_more_translations_of_a_line_are_more_pairs(tmp_path: Path) -> None:
    lines = [f"{a}\t{b}\tencore {b}" for a, b in zip(ENGLISH, GERMAN, strict=True)]
    texts = Parallel(pairs=((write(tmp_path / "a.tsv.gz", lines),),)).load(tmp_path)
    assert len(texts) == 80
    assert texts.sources[:2] == [ENGLISH[0], ENGLISH[0]]
    assert texts.translations[:2] == [GERMAN[0], f"encore {GERMAN[0]}"]


def test_what_is_dropped_is_counted(tmp_path: Path) -> None:
    left = ["\ufeff  Two \t words\u00a0", "", "Left alone", "Taxi", "long", "Two words", "Two words", *ENGLISH]
    right = ["Zwei  Wörter ", "leer", "  ", "Taxi", "l" * 61, "Zwei Wörter", "Zwei", *GERMAN]
    texts = paired(tmp_path, left, right, max_characters=60)
    assert texts.dropped == {"empty": 2, "over_long": 1, "identical": 1, "duplicate": 1}
    assert (texts.sources[0], texts.translations[0]) == ("Two words", "Zwei Wörter")
    assert (texts.sources[1], texts.translations[1]) == ("Two words", "Zwei")
    assert texts.facts()["count"] == 42


def test_the_fingerprint_covers_pairs_and_order(tmp_path: Path) -> None:
    prints = {
        paired(tmp_path).key,
        paired(tmp_path, ENGLISH[::-1], GERMAN[::-1]).key,
        paired(tmp_path, right=GERMAN[::-1]).key,
        paired(tmp_path, ENGLISH[1:], GERMAN[1:]).key,
        paired(tmp_path, GERMAN, ENGLISH).key,
    }
    assert len(prints) == 5
    # pinned: a changed hash would make recorded texts look new
    assert paired(tmp_path).key.startswith("ad0fe59026ef1981")


def test_a_source_stands_on_one_side_of_the_split(tmp_path: Path) -> None:
    texts = paired(tmp_path, ENGLISH * 2, GERMAN + [f"Und {text}" for text in GERMAN])
    train, heldout = texts.split(20)
    assert (len(train), len(heldout)) == (60, 20)
    assert not set(train.sources) & set(heldout.sources)
    assert {*zip(train.sources, train.translations, strict=True)} | {
        *zip(heldout.sources, heldout.translations, strict=True)
    } == {*zip(texts.sources, texts.translations, strict=True)}
    assert texts.split(20)[1].key == heldout.key != texts.split(20, seed=1)[1].key
    assert (len(texts.split(0)[0]), len(texts.split(0)[1])) == (80, 0)
    assert len(texts.split(1000)[1]) == 80


def test_a_pair_of_unequal_files_is_refused(tmp_path: Path) -> None:
    short, long = write(tmp_path / "a.en", ENGLISH[:30]), write(tmp_path / "a.de", GERMAN)
    message = "{0}: ends before line 31, where {1} goes on; pairs need equal lengths"
    assert fault(tmp_path, (short, long)) == message.format(short, long)
    assert fault(tmp_path, (long, short)) == message.format(short, long)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", b"one\teins\ntwo\n", "a.tsv: line 2 has no tab; expected source<TAB>translation"),
        ("a.tsv", b"one\teins\ntwo\tsch\xf6n\n", "a.tsv: line 2, byte 8 (0xf6) is not UTF-8"),
        ("a.tsv", b"one\teins\n\0\n", "a.tsv: line 2 holds a NUL byte; this is a binary file"),
        ("a.tsv", b"a" * 2**21, "a.tsv: line 1 is longer than 1048576 bytes; one text a line"),
        ("a.tsv", b"one\teins\n\ntwo\t\n", "a.tsv: 1 distinct pairs; at least 20 are needed"),
        ("a.tsv.gz", gzip.compress(b"one\teins\n" * 99, mtime=0)[:-9], "a.tsv.gz: the gzip file is cut off"),
        ("a.tsv.gz", b"one\teins\n", "a.tsv.gz: not a sound gzip file (Not a gzipped file (b'on'))"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert fault(tmp_path, (name,)) == message


def test_a_row_without_the_column_is_refused(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "a.csv", ["a,b,1", '"c\nc",d,1']), write(tmp_path / "b.csv", ["x,y,1", "z"])
    assert fault(tmp_path, (good, bad)) == "b.csv: line 2 has 1 columns; column 1 is wanted"
    assert fault(tmp_path, (good, good), columns=(3,)) == "a.csv: line 1 has 3 columns; column 3 is wanted"
    broken = write(tmp_path / "c.csv", ['"a"b,c'])
    assert fault(tmp_path, (good, broken)).startswith("c.csv: line 1 is not readable as CSV (")


def test_paths_that_are_refused(tmp_path: Path) -> None:
    table, plain = write(tmp_path / "a.tsv", ["one\teins"]), write(tmp_path / "a.txt", ["one"])
    wanted = "give lines, two .csv or .tsv files, or one .tsv file with both texts on a line"
    assert fault(tmp_path, (table, plain)) == fault(tmp_path, (plain, table)) == f"a.tsv: {wanted}"
    assert fault(tmp_path, (write(tmp_path / "a.csv", ["one,eins"]),)) == f"a.csv: {wanted}"
    assert fault(tmp_path, ("no.tsv",)) == "no.tsv: no such file"
    (tmp_path / "folder").mkdir()
    assert fault(tmp_path, ("folder",)) == "folder: a folder, not a text file"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "parallel: pairs: missing"),
        ({"pairs": [["a", "b", "c"]]}, "parallel: pairs.0 = "),
        ({"pairs": []}, "parallel: pairs = []: "),
        ({"pairs": [["a"]], "max_characters": 0}, "parallel: max_characters = 0: input should be greater than"),
    ],
)
def test_the_recipe_is_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Parallel.read(values, "parallel")
    assert str(caught.value).startswith(message)


def test_captions_and_sts_files_as_they_come(shared: Path) -> None:
    captions = Parallel(pairs=(("parallel/val.en.gz", "parallel/val.de.gz"),)).load(shared)
    assert (len(captions), captions.dropped["duplicate"]) == (1014, 0)
    sts = Parallel(pairs=(("stsb/en-dev.csv", "stsb/de-dev.csv"),)).load(shared)
    assert len(sts) + sum(sts.dropped.values()) == 3000
    assert ("A man with a hard hat is dancing.", "Ein Mann mit einem Schutzhelm tanzt.") in zip(
        sts.sources, sts.translations, strict=True
    )
