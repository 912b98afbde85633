"""A pattern that fits what a run has written, too, names the texts alone: the same command goes on."""

from pathlib import Path

import pytest
from builders import sentences
from embeddable import parts

from compressor.core.errors import RecipeError, TextError
from exporters import embed


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("\n".join(sentences(30)))
    return tmp_path


def test_the_output_is_none_of_the_texts(embeddable: Path, data: Path) -> None:
    pattern, out = str(data / "**" / "*.*"), data / "made" / "vectors"
    done = embed(embeddable, pattern, out, threads=1, shard_rows=10)
    before = parts(out)
    again = embed(embeddable, pattern, out, threads=1, shard_rows=10)
    assert (done.rows, done.computed, again.rows, again.computed) == (30, 30, 30, 0)
    (out / "part-00001.parquet").unlink()
    assert embed(embeddable, pattern, out, threads=1, shard_rows=10).computed == 10
    assert parts(out) == before


def test_the_output_alone_is_no_text(embeddable: Path, data: Path) -> None:
    out = data / "vectors"
    embed(embeddable, str(data / "a.txt"), out, threads=1)
    with pytest.raises(TextError) as caught:
        embed(embeddable, f"{out}/*.parquet", out, threads=1)
    assert str(caught.value) == f"{out}/*.parquet: fits files in out = {out} alone; give the texts"
    part = out / "part-00000.parquet"
    with pytest.raises(RecipeError) as refused:
        embed(embeddable, [str(data / "a.txt"), str(part)], out, threads=1)
    assert str(refused.value) == f"out = {out}: {part}, which is read, lies in it; give another folder"
