"""What a machine of a cluster is asked before it computes: whether it has the same code and sees the same files."""

import socket
from pathlib import Path

import pytest
from builders import sentences
from embeddable import parts

from compressor.core.errors import ArtifactError
from exporters import embed
from exporters.embedding import cluster
from exporters.embedding.cluster import Shards
from exporters.embedding.options import Embedding
from exporters.embedding.run import Run

SHARED = "not there, or another than here; every machine must see artifact, texts and output at the same paths"


@pytest.fixture
def work(embeddable: Path, tmp_path: Path) -> Shards:
    """Return the work of a folder that is embedded already."""
    (tmp_path / "a.txt").write_text("\n".join(sentences(40)))
    embed(embeddable, tmp_path / "a.txt", tmp_path / "out", 1, shard_rows=10)
    options = Embedding.read({"shard_rows": 10})
    return Shards(Run.prepare(embeddable, [str(tmp_path / "a.txt")], tmp_path / "out", options, 1).job)


def test_it_writes_what_is_not_there(work: Shards, tmp_path: Path) -> None:
    before = parts(tmp_path / "out")
    (tmp_path / "out" / "part-00002.parquet").unlink()
    times = (tmp_path / "out" / "part-00001.parquet").stat().st_mtime_ns
    work.open()
    assert [work.do(number) for number in (1, 2)] == [10, 10]
    assert parts(tmp_path / "out") == before
    assert (tmp_path / "out" / "part-00001.parquet").stat().st_mtime_ns == times


@pytest.mark.parametrize("name", ["a.txt", "out/_embedding.json"])
@pytest.mark.parametrize("instead", [None, "{}"])
def test_other_files_are_refused(name: str, instead: str | None, work: Shards, tmp_path: Path) -> None:
    path = tmp_path / name
    path.unlink()
    if instead is not None:
        path.write_text(instead)
    with pytest.raises(ArtifactError) as caught:
        work.open()
    assert str(caught.value) == f"{socket.gethostname()}: {path}: {SHARED}"


def test_other_code_is_refused(work: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "code_key", lambda module: "other")
    told = "other code than here; install the same compressor, packages and Python there"
    with pytest.raises(ArtifactError, match=f"^{socket.gethostname()}: {told}$"):
        work.open()


def test_what_is_written_and_never_seen_is_said(
    embeddable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("\n".join(sentences(40)))
    monkeypatch.setattr(cluster, "spread", lambda *_: None)  # on another disk, of this name
    monkeypatch.setattr(cluster, "SEEN_SECONDS", 0.1)
    monkeypatch.setattr("compressor.machine.cluster.installed", lambda *_: None)
    with pytest.raises(ArtifactError, match="out: shard 0 was written, and is not here; every machine must see"):
        embed(embeddable, tmp_path / "a.txt", tmp_path / "out", ray="auto", shard_rows=10)
