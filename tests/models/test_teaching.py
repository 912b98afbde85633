"""Vectors that are computed ahead are those that training looks for, and it computes none again."""

import os
import socket
from pathlib import Path

import numpy as np
import pytest
from builders import sentences
from commands import Command, refusal
from running import write_recipe

from compressor.core.config import load
from compressor.core.errors import ArtifactError, ModelError
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.models import teacher_vectors as vectors
from compressor.models import teaching
from compressor.models.bulk import BulkEncoder
from compressor.models.source import find
from compressor.models.teacher_vectors import training_vectors, vectors_of
from compressor.models.teaching import Asked, VectorShards
from compressor.texts.textstore import TextStore, TextWriter

RECIPE = """
[teacher]
model = "{teacher}"
[texts]
source = "texts.txt"
heldout = 40
[distil]
layers = [0, 1, 3]
precision = "fp32"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vectors"


@pytest.fixture
def store(tmp_path: Path) -> TextStore:
    with TextWriter(tmp_path / "store") as writer:
        for text in sentences(60):
            writer.add(text.encode(), 0)
    return TextStore(tmp_path / "store", 47)


@pytest.fixture
def work(tiny: Path, store: TextStore, cache: Path, monkeypatch: pytest.MonkeyPatch) -> VectorShards:
    """Return the work of a store of 47 texts and a list of 12, ten a shard."""
    monkeypatch.setattr(vectors, "SHARD_TEXTS", 10)
    monkeypatch.setenv("RANK", "9")  # of where it was made
    cache.mkdir(parents=True)
    (cache / "marker").write_text("mark")
    asked = [Asked(store, "fp32"), Asked(sentences(12, seed=1), "bf16")]
    return VectorShards(find(str(tiny)), asked, cache / "marker")


def test_a_worker_keeps_what_training_looks_for(
    work: VectorShards, store: TextStore, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(work.pieces) == 7
    work.open()
    assert [work.do(number) for number in range(7)] == [10, 10, 10, 10, 7, 10, 2]
    assert len(list(cache.glob("*.npy"))) == 7
    assert "RANK" not in os.environ
    monkeypatch.setattr(BulkEncoder, "load", None)  # nothing is left to compute
    kept = vectors_of(work.teacher, list(store), "fp32")
    assert kept.shape == (47, 32)
    assert vectors_of(work.teacher, sentences(12, seed=1), "bf16").shape == (12, 32)
    assert [work.do(number) for number in range(7)] == [10, 10, 10, 10, 7, 10, 2]


def test_texts_of_a_store_are_sent_as_their_place(work: VectorShards, store: TextStore) -> None:
    assert work.texts[0] == (store.folder, 47)


@pytest.mark.parametrize("what", ["cache", "code", "teacher"])
def test_another_machine_is_refused(
    what: str, work: VectorShards, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, there = socket.gethostname(), "every machine must see it there"
    told = {
        "cache": f"{host}: {cache.parent}: not the same cache; {there}",
        "code": f"{host}: other code than here; install the same compressor, packages and Python there",
        "teacher": f"{host}: {work.teacher.folder}: not the teacher; {there}",
    }
    if what == "cache":
        (cache / "marker").write_text("another")
    elif what == "code":
        monkeypatch.setattr(teaching, "code_key", lambda module: "other")
    else:
        monkeypatch.setattr(teaching, "content_key", lambda folder: "other")
    with pytest.raises(ModelError if what == "teacher" else ArtifactError) as caught:
        work.open()
    assert str(caught.value) == told[what]


def test_a_recipes_vectors_are_there_before_its_run(
    command: Command, tiny: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = write_recipe(tmp_path, RECIPE, tiny)
    status, shown, told = command("teach", home / "tiny.toml", "--runs", tmp_path / "runs")
    assert status == 0, told
    flow = EmbeddingFlow.of(load(home / "tiny.toml", Recipe), home, tmp_path / "runs")
    count = len(flow.corpus.train) + len(flow.corpus.dev) + len(flow.corpus.heldout)
    assert shown.startswith(f"{cache}: the teacher's vectors of {count} texts, computed in ")
    monkeypatch.setattr(BulkEncoder, "load", None)
    assert len(training_vectors(flow.teacher, flow.corpus)) == len(flow.corpus.train)
    assert np.isfinite(flow.heldout.teacher).all()
    assert len(flow.dev.texts) == len(flow.corpus.dev)
    assert not (tmp_path / "runs").exists()


def test_options_of_a_cluster_without_one(command: Command, tiny: Path, tmp_path: Path) -> None:
    home = write_recipe(tmp_path, RECIPE, tiny)
    line = refusal(command("teach", home / "tiny.toml", "--threads", 2))
    assert line == "error: threads = 2: only with ray; without, PyTorch takes all cores"
    assert refusal(command("teach", home / "tiny.toml", "--workers", 2)) == "error: workers = 2: only with ray"


def test_a_reader_learns_from_no_vectors(command: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "reader.toml"
    recipe.write_text((Path(__file__).parents[2] / "recipes" / "minilm-qa.toml").read_text())
    line = refusal(command("teach", recipe))
    assert line.endswith("task = question-answering: no vectors are learnt from; must be sentence-embedding")
