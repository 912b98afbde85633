"""Files of texts become folders of vectors: every text one row, whole files, the same bytes each time."""

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import sentences
from embeddable import DOCUMENT, QUERY, parts, rows_of

from compressor.artifact.workspace import Workspace
from compressor.core.errors import ArtifactError, CompressorError, RecipeError, StorageError, TextError
from compressor.texts.rows import chunks
from compressor.texts.rows.plan import Cursor
from exporters import OnnxEncoder, embed
from exporters.embedding import files
from exporters.embedding.job import Worker
from exporters.embedding.options import Embedding
from exporters.embedding.record import Record
from exporters.embedding.run import Run

TEXTS = [*sentences(300), "", "the dog", "", "the dog"]


def text_file(path: Path) -> None:
    path.write_text("\n".join(TEXTS) + "\n")


def packed_text_file(path: Path) -> None:
    path.write_bytes(gzip.compress("\r\n".join(TEXTS).encode() + b"\r\n"))


def table(path: Path) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([f"id {n // 2}", text] for n, text in enumerate(TEXTS))])


def tabs(path: Path) -> None:
    path.write_text("".join(f"{a}\t{b}\n" for a, b in [("id", "text"), *((str(n), t) for n, t in enumerate(TEXTS))]))


def objects(path: Path) -> None:
    path.write_text("".join(json.dumps({"id": n // 2, "text": text or None}) + "\n" for n, text in enumerate(TEXTS)))


def parquet(path: Path) -> None:
    pq.write_table(pa.table({"id": [n // 2 for n in range(len(TEXTS))], "text": TEXTS}), path, row_group_size=70)


KINDS: dict[str, Callable[[Path], None]] = {
    "a.txt": text_file,
    "a.txt.gz": packed_text_file,
    "a.csv": table,
    "a.tsv": tabs,
    "a.jsonl": objects,
    "a.parquet": parquet,
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    text_file(tmp_path / "a.txt")
    return tmp_path / "a.txt"


@pytest.fixture(scope="module")
def encoder(embeddable: Path) -> OnnxEncoder:
    return OnnxEncoder(embeddable, threads=1)


def fault(kind: type[CompressorError], *given: Any, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        embed(*given, **options)
    return str(caught.value)


def vectors_in(folder: Path) -> np.ndarray:
    column = rows_of(folder)["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), -1)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file(name: str, embeddable: Path, encoder: OnnxEncoder, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name)
    done = embed(embeddable, tmp_path / name, tmp_path / "out", threads=1, shard_rows=100, with_text=True)
    assert (done.rows, done.shards, done.computed) == (304, 4, 304)
    made = rows_of(tmp_path / "out")
    assert made.schema.field("vector").type == pa.list_(pa.field("element", pa.float32(), nullable=False), encoder.dim)
    assert made["id"].to_pylist() == list(range(304))
    assert made["text"].to_pylist() == TEXTS
    np.testing.assert_allclose(vectors_in(tmp_path / "out"), encoder.encode_document(TEXTS), atol=1e-6)
    assert Record.read(json.loads((tmp_path / "out" / "_embedding.json").read_text())).finished


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("a.csv", [f"id {n // 2}" for n in range(304)]),
        ("a.jsonl", [str(n // 2) for n in range(304)]),
        ("a.parquet", [n // 2 for n in range(304)]),
    ],
)
def test_ids_are_copied_and_one_that_comes_twice_has_two_rows(
    name: str, ids: list[Any], embeddable: Path, tmp_path: Path
) -> None:
    KINDS[name](tmp_path / name)
    embed(embeddable, tmp_path / name, tmp_path / "out", threads=1, shard_rows=99, id_column="id", column="text")
    made = rows_of(tmp_path / "out")
    assert made["id"].to_pylist() == ids
    assert made.column_names == ["id", "vector"]


def test_ids_of_tables_of_several_kinds_are_texts(embeddable: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        KINDS[name](tmp_path / name)
    embed(embeddable, [tmp_path / "a.parquet", tmp_path / "a.csv"], tmp_path / "out", threads=1, id_column="id")
    ids = rows_of(tmp_path / "out")["id"].to_pylist()
    assert ids == [str(n // 2) for n in range(304)] + [f"id {n // 2}" for n in range(304)]


@pytest.mark.parametrize("to", ["parquet", "npy"])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "uint8", "binary", "ubinary"])
def test_every_form_of_a_vector(
    precision: str, to: str, embeddable: Path, encoder: OnnxEncoder, source: Path, tmp_path: Path
) -> None:
    embed(embeddable, source, tmp_path / "out", threads=1, shard_rows=250, precision=precision, to=to)
    if to == "parquet":
        made = vectors_in(tmp_path / "out")
    else:
        made = np.concatenate([np.load(tmp_path / "out" / f"part-0000{n}.npy") for n in range(2)])
    if precision in ("float32", "float16"):
        expected = encoder.encode_document(TEXTS).astype(precision)
        np.testing.assert_allclose(made, expected, atol=1e-6 if precision == "float32" else 1e-3)
    else:
        expected = encoder.encode_document(TEXTS, precision=precision)
        assert (made == expected).mean() > 0.999  # a batch of other texts may round the last bit another way
    assert (made.dtype, made.shape) == (expected.dtype, expected.shape)


@pytest.mark.parametrize(("precision", "width"), [("float32", 128), ("float16", 64), ("int8", 32), ("ubinary", 4)])
def test_bytes_of_a_vector_in_parquet(
    precision: str, width: int, embeddable: Path, source: Path, tmp_path: Path
) -> None:
    embed(embeddable, source, tmp_path / "out", threads=1, precision=precision)
    column = pq.read_metadata(tmp_path / "out" / "part-00000.parquet").row_group(0).column(1)
    assert column.path_in_schema == "vector.list.element"
    assert column.total_compressed_size / 304 < 1.1 * width + 5  # a dictionary of 256 values, too


def test_roles_and_prompts(embeddable: Path, encoder: OnnxEncoder, source: Path, tmp_path: Path) -> None:
    options: list[dict[str, str]] = [{}, {"role": "query"}, {"prompt_name": "other"}, {"prompt": "red "}]
    for number, (given, prompt) in enumerate(zip(options, (DOCUMENT, QUERY, "near ", "red "), strict=True)):
        embed(embeddable, source, tmp_path / f"{number}", threads=1, **given)  # type: ignore[arg-type]
        np.testing.assert_allclose(
            vectors_in(tmp_path / f"{number}"), encoder.encode(TEXTS, prompt=prompt), atol=1e-6, err_msg=prompt
        )


def test_a_shard_is_the_same_bytes_wherever_it_is_computed(embeddable: Path, source: Path, tmp_path: Path) -> None:
    embed(embeddable, source, tmp_path / "out", threads=1, shard_rows=70)
    run = Run.prepare(embeddable, [str(source)], tmp_path / "alone", Embedding(shard_rows=70), threads=2)
    (tmp_path / "alone").mkdir()
    for number in (3, 0, 4):
        Worker(run.job).write([run.job.plan.shard(number)], run.job.output())
        name = f"part-0000{number}.parquet"
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_missing_and_cut_parts_alone_are_made_again(embeddable: Path, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    embed(embeddable, source, out, threads=1, shard_rows=70)
    before, times = parts(out), {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert embed(embeddable, source, out, threads=1, shard_rows=70).computed == 0
    (out / "part-00001.parquet").unlink()
    (out / "part-00004.parquet").write_bytes(before["part-00004.parquet"][:-9])
    (out / ".part-00001.parquet.partial-12345678-999999999").write_bytes(b"half")
    done = embed(embeddable, source, out, threads=1, shard_rows=70)
    assert (done.computed, done.rows) == (70 + 24, 304)
    assert parts(out) == before
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"part-00001.parquet", "part-00004.parquet"}
    assert sorted(path.name for path in out.glob(".*")) == [".lock"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": "int8"}, "precision = float32, not int8"),
        ({"shard_rows": 71}, "shard_rows = 70, not 71"),
        ({"role": "query"}, "role = document, not query"),
        ({"to": "npy"}, "to = parquet, not npy"),
        ({"with_text": True}, "with_text = False, not True"),
    ],
)
def test_other_options_are_refused(
    options: dict[str, Any], told: str, embeddable: Path, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    embed(embeddable, source, out, threads=1, shard_rows=70)
    before = parts(out)
    line = fault(ArtifactError, embeddable, source, out, threads=1, **({"shard_rows": 70} | options))
    assert line == f"{out}: begun with {told}; give the same again, or another folder"
    assert parts(out) == before


def test_other_texts_and_artifacts_are_refused(
    embeddable: Path, without_ranges: Path, source: Path, tmp_path: Path
) -> None:
    out, more = tmp_path / "out", tmp_path / "b.txt"
    more.write_text("one\n")
    embed(embeddable, [source, more], out, threads=1)
    told = f"{out}: begun with other texts: "
    assert fault(ArtifactError, embeddable, source, out).startswith(f"{told}{more} was among them;")
    assert fault(ArtifactError, embeddable, [more, source], out).startswith(f"{out}: begun with the same texts in anot")
    assert fault(ArtifactError, without_ranges, [source, more], out).startswith(f"{out}: begun with another artifact (")
    os.utime(more, ns=(1, 1))
    assert fault(ArtifactError, embeddable, [source, more], out).startswith(f"{told}{more} has changed")
    more.write_text("one\ntwo\n")
    assert fault(ArtifactError, embeddable, [source, more], out).startswith(f"{told}{more} has changed")


def test_a_plan_that_was_changed_is_refused(embeddable: Path, source: Path, tmp_path: Path) -> None:
    plan = tmp_path / "out" / "_plan.json"
    embed(embeddable, source, tmp_path / "out", threads=1)
    plan.write_text(plan.read_text().replace("304", "303"))
    assert fault(ArtifactError, embeddable, source, tmp_path / "out") == f"{plan}: is not of what _embedding.json says"
    plan.write_text('{"every": 1}')
    assert fault(ArtifactError, embeddable, source, tmp_path / "out").startswith(f"{plan}: not readable: ")


def test_folders_that_are_not_for_it(embeddable: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    line = fault(ArtifactError, embeddable, source, tmp_path / "other")
    assert line == f"{tmp_path / 'other'}: holds something else; give an empty or a new folder"
    assert fault(ArtifactError, embeddable, source, source) == f"{source}: exists and is no folder"
    line = fault(RecipeError, embeddable, tmp_path, tmp_path / "out")
    assert line.startswith(f"out = {tmp_path / 'out'}: lies in {tmp_path}, whose files are read")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "_embedding.json").write_text('{"format": "other"}')
    line = fault(ArtifactError, embeddable, source, tmp_path / "begun")
    assert line.startswith(f"{tmp_path / 'begun' / '_embedding.json'}: not readable: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "begun", "other"]
    assert sorted(path.name for path in tmp_path.rglob("*/*")) == ["_embedding.json", "notes.txt"]


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (RecipeError, {"to": "npy", "with_text": True}, "with_text = True: to = npy holds vectors alone"),
        (
            RecipeError,
            {"to": "lance", "precision": "int8"},
            "precision = int8: to = lance searches float32, float16 an",
        ),
        (
            RecipeError,
            {"prompt": "a", "prompt_name": "query"},
            "prompt_name = query: not beside prompt; give one of th",
        ),
        (RecipeError, {"precision": "int4"}, 'options: precision = "int4": input should be '),
        (RecipeError, {"shard_rows": 0}, "options: shard_rows = 0: "),
        (RecipeError, {"shard_row": 5}, "options: shard_row: unknown key; did you mean shard_rows?"),
        (TextError, {"prompt_name": "passage"}, "prompt_name = 'passage': must be "),
        (TextError, {"column": "text"}, "{source}: column = text: only tables have columns"),
    ],
)
def test_options_that_are_refused(
    kind: type[CompressorError], options: dict[str, Any], line: str, embeddable: Path, source: Path, tmp_path: Path
) -> None:
    told = fault(kind, embeddable, source, tmp_path / "out", threads=1, **options)
    assert told.startswith(line.format(source=source)), told
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_embedded_leaves_nothing(
    embeddable: Path, without_ranges: Path, source: Path, tmp_path: Path
) -> None:
    line = fault(ArtifactError, without_ranges, source, tmp_path / "out", precision="int8")
    assert "output_ranges.safetensors: no such file" in line
    empty = tmp_path / "empty.txt"
    empty.write_text("")
    assert fault(TextError, embeddable, empty, tmp_path / "out") == f"{empty}: empty, no text to embed"
    empty.write_bytes(b"good\n" * 300 + b"bad\xff\n")
    assert fault(TextError, embeddable, empty, tmp_path / "out").startswith(f"{empty}: line 301, byte 4 (0xff) is not")
    assert fault(ArtifactError, tmp_path / "none", source, tmp_path / "out").endswith("not an artifact of this project")
    assert not (tmp_path / "out").exists()


def test_a_bad_row_in_the_middle_keeps_the_shards_before_it(embeddable: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "a.jsonl", tmp_path / "out"
    rows = [json.dumps({"text": text}) for text in sentences(2000)]
    path.write_text("\n".join([*rows[:1500], '{"text": 7}', *rows[1501:]]))
    line = fault(TextError, embeddable, path, out, threads=1, shard_rows=200)
    assert line == f"{path}: line 1501: text = 7: no text"
    assert not Record.read(json.loads((out / "_embedding.json").read_text())).finished
    assert sorted(parts(out)) == [
        "_embedding.json",
        "_plan.json",
        *(f"part-0000{n}.parquet" for n in range(5)),
    ]  # a table is read 1,024 rows at a time
    assert not list(out.glob(".*.partial-*"))


def test_a_file_that_changes_while_it_is_read(
    embeddable: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Worker.rows

    def changing(self: Worker, shard: Any) -> Any:
        with source.open("a") as file:
            file.write("more\n")
        return real(self, shard)

    monkeypatch.setattr(Worker, "rows", changing)
    assert fault(TextError, embeddable, source, tmp_path / "out") == f"{source}: changed while it was read"
    assert not Record.read(json.loads((tmp_path / "out" / "_embedding.json").read_text())).finished


def test_a_disk_that_is_full(embeddable: Path, source: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        line = fault(StorageError, embeddable, source, tmp_path / "out", threads=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert line.startswith(f"{tmp_path / 'out' / 'part-00000.parquet'}: ")
    assert sorted(parts(tmp_path / "out")) == ["_embedding.json", "_plan.json"]
    assert not list((tmp_path / "out").glob(".*.partial-*"))


def test_a_second_run_in_one_folder_is_refused(embeddable: Path, source: Path, tmp_path: Path) -> None:
    with Workspace(tmp_path / "out").lock():
        line = fault(ArtifactError, embeddable, source, tmp_path / "out")
    assert line == f"{tmp_path / 'out'}: another run is at work in this folder"


def test_little_is_read_ahead_and_little_waits(
    embeddable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many texts there are: what is read and not yet written is some pieces of the stream."""
    path, read, written, most = tmp_path / "a.txt", 0, 0, 0
    path.write_text("the dog\n" * 60_000)
    real_read, real_batch = Cursor.read, files.batch

    def reading(self: Cursor, shard: Any) -> Any:
        nonlocal read, most
        for block in real_read(self, shard):
            read += len(block)
            most = max(most, read - written)
            yield block

    def writing(rows: Any, schema: Any) -> Any:
        nonlocal written
        written += len(rows)
        return real_batch(rows, schema)

    monkeypatch.setattr(chunks, "_BYTES", 1 << 12)
    monkeypatch.setattr(Cursor, "read", reading)
    monkeypatch.setattr(files, "batch", writing)
    embed(embeddable, path, tmp_path / "out", threads=1)
    assert (read, written) == (60_000, 60_000)
    assert most <= (3 + 5) * 4096 + 2000  # pieces of the stream, pieces on their way, and a chunk of the file
