"""Texts come from the column of a table or a data set that holds them; what cannot be told is asked for."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from corpora import NUMBERED, every, fault, files, write

from compressor.core.errors import TextError
from compressor.texts.corpus import Texts, TextSource, read_corpus
from compressor.texts.tables import csv_rows, text_column


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))


def test_a_column_belongs_to_a_data_set(tmp_path: Path) -> None:
    write(tmp_path / "texts.txt", NUMBERED)
    message = fault(Texts(source="texts.txt", column="a"), tmp_path)
    assert message == "texts.txt: column = a: only tables and data sets have columns"
    assert fault(Texts(column="a")) == "docstrings: column = a: only tables and data sets have columns"


def test_a_command_reads_the_column_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    rows = [f"{text},the reverse of it is {text[::-1]}" for text in NUMBERED]
    path.write_text("\n".join(["question,answer", *rows]))
    with pytest.raises(TextError, match=r"name the one to read as texts\.column, of a command as --column$"):
        read_corpus(TextSource(str(path)), None)
    first, second = (read_corpus(TextSource(str(path), name), None) for name in ("question", "answer"))
    assert sorted(every(first)) == sorted(NUMBERED)
    assert all(text.startswith("the reverse of it is") for text in every(second))
    assert (first.columns, second.columns) == ({str(path): "question"}, {str(path): "answer"})
    few = read_corpus(TextSource(str(path), "question"), 300)
    assert len(every(few)) == 300


def test_a_file_has_no_split_and_a_text_file_no_column(tmp_path: Path) -> None:
    write(tmp_path / "texts.txt", NUMBERED)
    (tmp_path / "texts.csv").write_text("\n".join(["text", *NUMBERED]))
    for name, kind, given in (
        ("texts.txt", "column = a: only tables and data sets have columns", {"column": "a"}),
        ("texts.txt", "split = dev: only data sets have splits", {"split": "dev"}),
        ("texts.csv", "split = dev: only data sets have splits", {"split": "dev"}),
    ):
        with pytest.raises(TextError) as caught:
            read_corpus(TextSource(str(tmp_path / name), **given), None)
        assert str(caught.value) == f"{tmp_path / name}: {kind}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Serve data sets from memory; the list holds what was asked for."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(name: str, config: str | None, split: str) -> datasets.Dataset:
        calls.append((name, config, split))
        if name == "no/such":
            raise ConnectionError("could not reach\nthe hub")
        numbers = list(range(1001))
        if name == "no/text":
            return datasets.Dataset.from_dict({"id": numbers})
        answers = [text.upper() for text in [*NUMBERED, "one more"]]
        return datasets.Dataset.from_dict({"id": numbers, "anchor": [*NUMBERED, None], "answer": answers})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_data_sets_give_the_named_text_column(asked: list[tuple[Any, ...]]) -> None:
    first = Texts(source="org/name", split="dev", column="anchor").load()
    named = Texts(source="org/name:pair", column="answer").load()
    assert asked == [("org/name", None, "dev"), ("org/name", "pair", "train")]
    assert first.dropped == {"empty": 1, "wordless": 0, "duplicate": 0}
    assert (len(first.train), len(first.heldout)) == (800, 100)
    assert first.train[0].startswith("Sentence number")
    assert named.train[0].startswith(("SENTENCE NUMBER", "ONE MORE"))


def test_a_command_reads_the_split_that_it_names(asked: list[tuple[Any, ...]]) -> None:
    assert read_corpus(TextSource("org/name", "answer", "dev"), None).columns == {"org/name": "answer"}
    read_corpus(TextSource("org/name", "answer"), None)
    assert asked == [("org/name", None, "dev"), ("org/name", None, "train")]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["id", "text"], "text"),
        (["url", "Sentence", "label"], "Sentence"),
        (["doc_id", "anything"], "anything"),
        (["title", "passage"], "passage"),
        (["id"], None),
        (["question", "answer"], None),
        (["text", "content"], None),
    ],
)
def test_the_column_of_texts_is_known_or_asked_for(names: list[str], wanted: str | None) -> None:
    if wanted:
        assert text_column("x", names, None, names) == wanted
        return
    with pytest.raises(TextError, match="no text column|several columns hold texts: .*; name the one to read as"):
        text_column("x", names, None, names)


def rows() -> list[dict[str, Any]]:
    return [{"id": f"row-{i}", "text": text, "year": 1990 + i % 9} for i, text in enumerate(NUMBERED)]


def as_csv(delimiter: str) -> bytes:
    table = [rows()[0].keys(), *(row.values() for row in rows())]
    return "\n".join(delimiter.join(map(str, row)) for row in table).encode()


def as_json() -> bytes:
    return "\n".join(map(json.dumps, rows())).encode()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(
    ("suffix", "content"), [(".csv", as_csv(",")), (".tsv", as_csv("\t")), (".jsonl", as_json()), (".json", as_json())]
)
def test_tables_are_read(tmp_path: Path, suffix: str, content: bytes, packed: bool, mark: bytes) -> None:
    path = tmp_path / f"texts{suffix}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(mark + content, mtime=0) if packed else mark + content)
    corpus = Texts(source=path.name).load(tmp_path)
    assert sorted(every(corpus)) == sorted(NUMBERED)
    assert corpus.facts()["columns"] == {path.name: "text"}
    named = Texts(source=path.name, column="id").load(tmp_path)
    assert named.train[0].startswith("row-")


def test_parquet_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    datasets.Dataset.from_list(rows()).to_parquet(str(tmp_path / "texts.parquet"))
    corpus = Texts(source="texts.parquet").load(tmp_path)
    assert sorted(every(corpus)) == sorted(NUMBERED)
    assert corpus.columns == {"texts.parquet": "text"}
    (tmp_path / "false.parquet").write_bytes(b"id,text")
    assert "false.parquet: not readable as Parquet: " in fault(Texts(source="false.parquet"), tmp_path)


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    others = [row | {"text": f"another {row['text']}"} for row in rows()]
    for name, made in (("texts[1]", rows()), ("texts1", others)):
        datasets.Dataset.from_list(made).to_parquet(str(tmp_path / f"{name}.parquet"))
    assert sorted(every(Texts(source="texts[1].parquet").load(tmp_path))) == sorted(NUMBERED)


def test_a_quote_within_long_cells_is_text(tmp_path: Path) -> None:
    """Read again as lines, the cells would be one field longer than a field may be."""
    cells = ['x\n"' + "a" * 70_000, "y\n" + "b" * 70_000]
    with (tmp_path / "long.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], cells])
    assert [row for _, row in csv_rows(tmp_path / "long.csv")][1] == cells


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b'{"text": "a"}\nb\n', "line 2 is no JSON (Expecting value: line 1 column 1 (char 0))"),
        ("t.json", b'[{"text": "a"}]\n', "line 1 is no object; one object a line is read"),
        ("t.csv", b"id,text\n1,a\n2\n", "line 3 has 1 columns, the first line 2"),
        ("t.csv", b"a,a\n1,2\n", "its first line names a column twice: a, a"),
        ("t.csv", b'id,text\n1,"a\n2,b\n3,c"\n4,d\n', "line 2: a quoted field reaches to line 4 and holds rows"),
        ("t.csv", gzip.compress(b"id,text\n", mtime=0), "a gzip file, whatever its name says"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert f"{tmp_path / name}: {message}" in fault(Texts(source=name), tmp_path)


def test_a_data_set_and_a_file_may_be_mixed(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    _, two = files(tmp_path)
    corpus = Texts(source=("org/name", two), column="answer", weights=(1.0, 1.0)).load(tmp_path)
    assert corpus.per_source == {"org/name": 501, two: 500}  # the 1002nd turn is the file's
    assert asked == [("org/name", None, "train")]


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


def test_a_data_set_without_text_is_refused(asked: list[Any]) -> None:
    assert fault(Texts(source="no/text")) == "no/text: no text column; there are: id"
