"""Rows of files: each kind read from any row on gives what it gives from its beginning, and says what is wrong."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compressor.core.errors import TextError
from compressor.texts.rows import chunks
from compressor.texts.rows.base import RowFile
from compressor.texts.rows.find import find, open_rows
from compressor.texts.rows.plan import Cursor, Plan

TEXTS = ["one", "", "zwei, 2", 'said "three"', "日本 é", "  six ", "seven\tx", "", "nine's", "10", "x" * 300] * 37


def plain(path: Path, texts: Sequence[str]) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join(texts).encode())


def windows(path: Path, texts: Sequence[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{text}\r\n" for text in texts).encode()))


def table(path: Path, texts: Sequence[str]) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["n", "text", "key"])
    for number, text in enumerate(texts):
        writer.writerow([number, text, f"k{number}"])
        if number % 5 == 0:
            file.write("\n")  # a blank line is no row
    content = file.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def objects(path: Path, texts: Sequence[str]) -> None:
    rows = [{"key": number, "text": text or None} for number, text in enumerate(texts)]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=row["key"] % 2 == 0) for row in rows), "utf-8")


def parquet(path: Path, texts: Sequence[str]) -> None:
    rows = pa.table({"key": range(len(texts)), "text": [text or None for text in texts]})
    pq.write_table(rows, path, row_group_size=41)


KINDS = {
    "a.txt": plain,
    "b.txt.gz": windows,
    "c.csv": table,
    "d.csv.gz": table,
    "e.jsonl": objects,
    "f.parquet": parquet,
}


def read(files: Sequence[RowFile], every: int) -> list[str]:
    return by_shards(files, Plan.make(files, every))


def by_shards(files: Sequence[RowFile], plan: Plan) -> list[str]:
    cursor = Cursor(files)
    return [text for shard in map(plan.shard, range(len(plan))) for block in cursor.read(shard) for text in block.texts]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_BYTES", 150)  # lines reach over the end of a chunk


@pytest.mark.parametrize("name", KINDS)
def test_any_shard_read_alone_has_the_rows_that_it_has_in_order(name: str, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name, TEXTS)
    files = open_rows([tmp_path / name], None, None)
    for every in (1, 7, 100, 10_000):
        plan = Plan.make(files, every)
        assert (plan.rows, len(plan)) == (len(TEXTS), -(-len(TEXTS) // every))
        assert Plan.read(json.loads(json.dumps(plan.as_json()))) == plan
        assert read(files, every) == TEXTS
        for number in range(0, len(plan), 1 + len(plan) // 9):
            shard = plan.shard(number)
            alone = [text for block in Cursor(files).read(shard) for text in block.texts]
            assert alone == TEXTS[shard.first : shard.first + every]


def test_shards_reach_over_files(tmp_path: Path) -> None:
    for name, write in KINDS.items():
        write(tmp_path / name, [f"{name} {text}" for text in TEXTS])
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "header.csv").write_text("text\n")
    (tmp_path / "_embedding.json").write_text("{}")
    (tmp_path / "README.md").write_text("about the data")
    files = open_rows(find([str(tmp_path)]), None, None)
    assert [file.path.name for file in files] == sorted([*KINDS, "empty.txt", "header.csv"])
    expected = [f"{name} {text}" for name in KINDS for text in TEXTS]
    assert read(files, 111) == expected


@pytest.mark.parametrize("name", ["c.csv", "e.jsonl", "f.parquet"])
def test_ids(name: str, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name, TEXTS)
    [file] = files = open_rows([tmp_path / name], "text", "key")
    plan, cursor = Plan.make(files, 50), Cursor(files)
    ids = [i for shard in map(plan.shard, range(len(plan))) for block in cursor.read(shard) for i in block.ids or []]
    expected = {"c.csv": [f"k{n}" for n in range(len(TEXTS))], "e.jsonl": [str(n) for n in range(len(TEXTS))]}
    assert ids == expected.get(name, list(range(len(TEXTS))))
    assert file.whole_ids is (name == "f.parquet")


def test_sources(tmp_path: Path) -> None:
    for name in ("x/a.txt", "x/deep/b.jsonl", "x/.hidden/c.txt", "y.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text\n")

    def names(*sources: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in find([f"{tmp_path}/{source}" for source in sources])]

    assert names("y.txt", "x") == ["y.txt", "x/a.txt", "x/deep/b.jsonl"]
    assert names("**/*.txt") == ["x/a.txt", "y.txt"]
    for sources, fault in [
        (["x", "x/a.txt"], "x/a.txt: named twice; every text has one row"),
        (["*.csv"], "*.csv: no file fits this pattern"),
        (["x/.hidden/c.txt", "missing.txt"], "missing.txt: no such file"),
    ]:
        with pytest.raises(TextError) as caught:
            open_rows(find([str(tmp_path / source) for source in sources]), None, None)
        assert str(caught.value) == f"{tmp_path}/{fault}"
    (tmp_path / "none").mkdir()
    with pytest.raises(TextError, match="no file of texts in this folder; read are: .csv, .en, .gz"):
        find([str(tmp_path / "none")])


FAULTS: list[tuple[str, bytes, str]] = [
    ("a.txt", b"one\ntwo\xff\n", "line 2, byte 4 (0xff) is not UTF-8"),
    ("a.txt", b"one\n" * 99 + b"t\0wo\n", "line 100 holds a NUL byte; this is a binary file"),
    ("a.txt", "eins".encode("utf-16"), "UTF-16, not UTF-8; save it as that"),
    ("a.txt", b"x" * (1 << 20), "line 1 is longer than 1048576 bytes; one text a line"),
    ("a.txt.gz", gzip.compress(b"one\n" * 999, mtime=0)[:-9], "the gzip file is cut off"),
    ("a.zip", b"PK", "a .zip file is not read; give texts plain or .gz, or tables"),
    ("a.csv", b'text\none\n"two\n', "line 3 is not readable as CSV (unexpected end of data)"),
    ("a.csv", b"text,n\none,1\ntwo\n", "line 3 has 1 columns, the first line 2"),
    ("a.csv", b"text,text\none,1\n", "its first line names a column twice: text, text"),
    ("a.jsonl", b'{"text": "one"}\n{"text": 2}\n', "line 2: text = 2: no text"),
    ("a.jsonl", b'{"text": "one"}\n[]\n', "line 2 is no object; one object a line is read"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud800"}\n', "line 2: holds half a character"),
    ("a.parquet", b"PAR1 and no more", "not readable as Parquet: Parquet magic bytes not found in footer."),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "fault"), FAULTS)
def test_faults(name: str, content: bytes, fault: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError) as caught:
        read(open_rows([tmp_path / name], None, None), 10)
    assert str(caught.value).startswith(f"{tmp_path / name}: {fault}"), caught.value


COLUMNS: list[tuple[str, str | None, str | None, str]] = [
    ("c.csv", "txt", None, "column = txt: no such text column; there are: text, key"),
    ("c.csv", None, "uid", "id_column = uid: no such column; there are: n, text, key"),
    ("e.jsonl", "txt", None, "column = txt: no such text column; there are: text"),
    ("f.parquet", "key", None, "column = key: no such text column; there are: text"),
    ("f.parquet", None, "uid", "id_column = uid: no column of texts or whole numbers; there are: key, text"),
    ("a.txt", "text", None, "column = text: only tables have columns"),
    ("a.txt", None, "key", "id_column = key: only tables have columns"),
]


@pytest.mark.parametrize(("name", "column", "id_column", "fault"), COLUMNS)
def test_columns_that_are_not_there(
    name: str, column: str | None, id_column: str | None, fault: str, tmp_path: Path
) -> None:
    KINDS[name](tmp_path / name, TEXTS)
    with pytest.raises(TextError) as caught:
        open_rows([tmp_path / name], column, id_column)
    assert str(caught.value) == f"{tmp_path / name}: {fault}"


@pytest.mark.parametrize(
    ("name", "write", "fault"),
    [
        ("a.parquet", lambda path: pq.write_table(pa.table({"t": ["a", "b"], "i": ["x", None]}), path), "row 1: i is"),
        ("a.jsonl", lambda path: path.write_text('{"t": "a", "i": 1}\n{"t": "b"}\n'), "line 2: i = None: no id"),
        ("a.jsonl", lambda path: path.write_text('{"t": "a", "i": true}\n'), "line 1: i = True: no id"),
    ],
)  # fmt: skip
def test_a_text_without_an_id(name: str, write: Callable[[Path], object], fault: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(TextError) as caught:
        read(open_rows([tmp_path / name], "t", "i"), 10)
    assert str(caught.value).startswith(f"{tmp_path / name}: {fault}")


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_shrinks_meanwhile(name: str, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name, TEXTS)
    files = open_rows([tmp_path / name], None, None)
    plan = Plan.make(files, 100)
    KINDS[name](tmp_path / name, TEXTS[:150])
    with pytest.raises(TextError, match=r": (changed while it was read|line \d+)"):
        by_shards(files, plan)


def test_a_row_in_quotes_reaches_over_lines(tmp_path: Path) -> None:
    texts = ["a\nb", "c", 'd "e"\n\nf', "", "g\r\nh"] * 20
    table(tmp_path / "c.csv", texts)
    assert read(open_rows([tmp_path / "c.csv"], None, None), 3) == texts
