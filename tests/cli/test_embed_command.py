"""compressor embed as it is typed."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import Command, refusal
from embeddable import rows_of


def test_texts_to_parquet(command: Command, embeddable: Path, texts: Path, tmp_path: Path) -> None:
    given = (embeddable, texts, "--out", tmp_path / "out", "--shard-rows", 128, "--threads", 1)
    status, out, err = command("embed", *given)
    assert (status, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'out'}: 300 rows in 3 shards, ")
    assert out.endswith(" texts/s\n")
    assert rows_of(tmp_path / "out")["id"].to_pylist() == list(range(300))
    (tmp_path / "out" / "part-00001.parquet").unlink()
    status, out, err = command("embed", *given)
    assert err == f"{tmp_path / 'out'}: 172 of 300 rows are there\n"
    status, out, err = command("embed", *given)
    assert (status, out) == (0, f"{tmp_path / 'out'}: 300 rows in 3 shards\n")
    line = refusal(command("embed", *given, "--precision", "int8"))
    told = "begun with precision = float32, not int8; give the same again, or another folder"
    assert line == f"error: {tmp_path / 'out'}: {told}"


def test_several_sources_and_columns(command: Command, embeddable: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("key,title,summary\nx,one,two\ny,three,four\n")
    (tmp_path / "in" / "b.jsonl").write_text('{"key": 7, "title": "five", "summary": "six"}\n')
    given = ("--out", tmp_path / "out", "--threads", 1, "--id-column", "key")
    line = refusal(command("embed", embeddable, tmp_path / "in" / "*.csv", *given))
    assert line == (
        f"error: {tmp_path / 'in' / 'a.csv'}: several columns hold texts: title, summary; "
        "name the one to read as texts.column, of a command as --column"
    )
    status, _, _ = command("embed", embeddable, f"{tmp_path}/in/*", *given, "--column", "title", "--with-text", "true")
    made = rows_of(tmp_path / "out")
    assert (status, made["id"].to_pylist()) == (0, ["x", "y", "7"])
    assert made["text"].to_pylist() == ["one", "three", "five"]


def test_usage(command: Command, embeddable: Path, tmp_path: Path) -> None:
    assert command("embed", embeddable, "--out", tmp_path / "out")[0] == 2
    assert command("embed", embeddable, "a.txt")[0] == 2
    line = refusal(command("embed", embeddable, tmp_path / "missing.txt", "--out", tmp_path / "out"))
    assert line == f"error: {tmp_path / 'missing.txt'}: no such file"


def test_a_cluster_asked_for_wrongly(command: Command, embeddable: Path, texts: Path, tmp_path: Path) -> None:
    given = ("embed", embeddable, texts, "--out", tmp_path / "out")
    line = refusal(command(*given, "--workers", 2))
    assert line == "error: workers = 2: only with ray"
    assert command(*given, "--ray", "local", "--workers", 0)[0] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_without_ray(command: Command, embeddable: Path, texts: Path, tmp_path: Path) -> None:
    line = refusal(command("embed", embeddable, texts, "--out", tmp_path / "out", "--ray", "local"))
    assert line == "error: ray: not installed; pip install 'compressor[ray]'"
    assert not (tmp_path / "out").exists()
