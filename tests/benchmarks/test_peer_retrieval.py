"""Peers search as their teacher does: roles and prompts, parts of large collections, figures, and who is out."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beir import of_sentences
from builders import WORDS, sentences
from peering import load

from benchmarks.bench import Bench
from benchmarks.peers import process, run
from benchmarks.peers.entry import Entry
from benchmarks.peers.process import Worker
from benchmarks.peers.runners.batches import Prompted
from benchmarks.report import markdown
from benchmarks.report import peers as page
from benchmarks.systems import System
from compressor.core.encoder import Vectors
from compressor.core.errors import PeerError
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import Source
from compressor.texts.collections import Collection

TEXTS = sentences(64)


@pytest.fixture(scope="module")
def asking(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a teacher with a prompt for queries, one for documents, and another by default."""
    folder = shutil.copytree(tiny, tmp_path_factory.mktemp("asking") / "model")
    state_prompts(folder, {"query": "two red houses : ", "document": "old : ", "plain": "slow "}, "plain")
    return folder


def state_prompts(folder: Path, prompts: dict[str, str], default: str | None = None) -> None:
    path = folder / "config_sentence_transformers.json"
    stated = json.loads(path.read_text()) | {"prompts": prompts, "default_prompt_name": default}
    path.write_text(json.dumps(stated))


@pytest.mark.parametrize("runner", ["pytorch", "ours"])
def test_queries_and_documents_have_their_prompts(runner: str, worker: Worker, asking: Path) -> None:
    teacher = System("teacher", "t", "torch", str(asking), "PyTorch CPU", 1)
    load(worker, asking, runner, **({"form": "bf16"} if runner == "pytorch" else {"system": asdict(teacher)}))
    exact = TorchEncoder.load(asking, "bf16" if runner == "pytorch" else "fp32")
    queries, documents = worker.vectors(TEXTS, 16, "query"), worker.vectors(TEXTS, 16, "document")
    np.testing.assert_allclose(queries, exact.encode_query(TEXTS, 16), atol=1e-6)
    np.testing.assert_allclose(documents, exact.encode_document(TEXTS, 16), atol=1e-6)
    for vectors in (documents, worker.vectors(TEXTS, 16)):
        assert np.abs(queries - vectors).max() > 0.01


def test_many_texts_are_asked_for_in_parts(worker: Worker, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(worker, tiny, "ours", system=asdict(System("teacher", "t", "torch", str(tiny), "PyTorch CPU", 1)))
    asked: list[int] = []

    def noted(do: str, **request: Any) -> dict[str, Any]:
        asked.append(len(request["texts"]))
        return Worker.ask(worker, do, **request)

    monkeypatch.setattr(worker, "ask", noted)
    monkeypatch.setattr(process, "_AT_ONCE", 30)
    vectors = worker.vectors(TEXTS, 16)
    assert asked == [30, 30, 4]
    np.testing.assert_allclose(vectors, TorchEncoder.load(tiny).encode(TEXTS, 16), atol=1e-6)


class Echo(Prompted):
    """A bare runtime that notes what it is given."""

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        self.given = texts
        return np.ones((len(texts), 2), np.float32)


def test_a_bare_runtime_is_given_the_teachers_prompts(asking: Path, tiny: Path) -> None:
    bare = Echo(asking)
    bare.encode_query(["one cat", "dog"], 2)
    assert bare.given == ["two red houses : one cat", "two red houses : dog"]
    bare.encode_document(["one cat"], 2)
    assert bare.given == ["old : one cat"]
    plain = Echo(tiny)
    for encode in (plain.encode_query, plain.encode_document):
        encode(["one cat"], 2)
        assert plain.given == ["one cat"]


def test_a_bare_runtime_refuses_a_prompt_that_pooling_leaves_out(asking: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(asking, tmp_path / "model")
    path = folder / "1_Pooling" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"include_prompt": False}))
    with pytest.raises(ValueError, match=r"^prompt 'two red houses : ': the model's pooling leaves prompts out"):
        Echo(folder).encode_query(["one cat"], 1)
    state_prompts(folder, {"query": ""})
    Echo(folder).encode_query(["one cat"], 1)


class Answering:
    """A worker whose vectors are known: how often each word stands in a text, ``change``d."""

    def __init__(self, change: Callable[[Vectors], Vectors] = lambda vectors: vectors) -> None:
        self.change, self.roles = change, list[str]()

    def vectors(self, texts: Sequence[str], batch_size: int, role: str) -> Vectors:
        self.roles.append(role)
        return self.change(np.array([[text.split().count(word) for word in WORDS] for text in texts], np.float32))

    def close(self) -> None:
        pass


def test_what_each_system_finds(source: Source, tmp_path: Path) -> None:
    """Reduced vectors search the reduced index, other models none; a peer that dies searching is out of the run."""
    projection = Projection(np.eye(8, len(WORDS), dtype=np.float32), np.full(len(WORDS), 0.25, np.float32))
    (tmp_path / "artifact").mkdir()
    projection.save(tmp_path / "artifact")

    def dies(vectors: Vectors) -> Vectors:
        raise PeerError("died")

    workers: dict[str, Any] = {
        "teacher": Answering(),
        "ours": Answering(projection.apply),
        "dead": Answering(dies),
        "alike": Answering(lambda vectors: 2 * vectors),
        "other": Answering(lambda vectors: vectors[:, :3]),
    }
    kinds = {"teacher": "teacher", "ours": "artifact"}
    entries = [Entry(name, name, kinds.get(name, "peer"), worker) for name, worker in workers.items()]
    folders = {"teacher": source.folder, "ours": tmp_path / "artifact"}
    systems = [System(name, name, "onnx", str(folder)) for name, folder in folders.items()]
    collections = [Collection.read(of_sentences(tmp_path / name)) for name in ("one", "two")]
    found = run.Beside(Bench(), source, systems, [], TEXTS, "texts", TEXTS, [], collections)._found(entries)
    assert list(found) == ["teacher", "ours", "alike", "other"]
    assert [entry.reason for entry in entries] == [None, None, "died", None, None]
    assert workers["teacher"].roles == ["query", "document"] * 2
    for name in ("one", "two"):
        teacher, ours, alike, other = (dict(rows[name]) for rows in found.values())
        assert teacher["ndcg_at_10"] == pytest.approx(100)  # a query has its document's words
        assert ours.pop("on_teachers_index") == ours
        assert alike.pop("on_teachers_index") == alike == teacher
        assert "on_teachers_index" not in other
        assert other["ndcg_at_10"] < 90
    assert run.Beside(Bench(), source, systems, [], TEXTS, "texts", TEXTS, [])._found(entries) == {}


def test_a_teacher_that_dies_searching_ends_the_run(source: Source, tmp_path: Path) -> None:
    def dies(vectors: Vectors) -> Vectors:
        raise PeerError("died")

    worker: Any = Answering(dies)
    system = System("teacher", "t", "torch", str(source.folder))
    searched = [Collection.read(of_sentences(tmp_path / "one"))]
    with pytest.raises(PeerError, match=r"^teacher: died$"):
        run.Beside(Bench(), source, [system], [], TEXTS, "t", TEXTS, [], searched)._found(
            [Entry("teacher", "t", "teacher", worker)]
        )


def test_the_page_says_what_is_found() -> None:
    figures = {"ndcg_at_10": 40.0, "recall_at_1": 9.0, "recall_at_10": 49.0, "recall_at_100": 80.0, "mrr_at_10": 44.0}
    ours = figures | {"ndcg_at_10": 35.0, "on_teachers_index": figures | {"ndcg_at_10": 37.26}}
    rows = [
        {"name": "teacher", "label": "teacher", "kind": "teacher", "retrieval": {"cisi": figures, "books": figures}},
        {"name": "runs/a|b", "label": "ours", "kind": "artifact", "retrieval": {"cisi": ours, "books": figures}},
        {"name": "p", "label": "peer", "kind": "peer", "reason": "died"},
    ]
    texts = {"source": "en", "count": 2000, "tokens_mean": 14.0}
    results = {"bench": {"texts": texts, "rounds": 5, "threads": 2, "systems": rows}, "command": "c"}
    told = page.markdown(results, markdown.source)
    assert told.split("## Retrieval")[1].split("\n\n")[1].splitlines() == [
        "| System | Collection | nDCG@10 | Recall@1 | Recall@10 | Recall@100 | MRR@10 "
        "| nDCG@10 on the teacher's index |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
        "| teacher | cisi | 40.0 | 9.0 | 49.0 | 80.0 | 44.0 | – |",
        "|  | books | 40.0 | 9.0 | 49.0 | 80.0 | 44.0 | – |",
        "| runs/a\\|b | cisi | 35.0 | 9.0 | 49.0 | 80.0 | 44.0 | 37.3 |",
        "|  | books | 40.0 | 9.0 | 49.0 | 80.0 | 44.0 | – |",
    ]
    cells = {line.split(" | ")[0]: line.split(" | ") for line in told.split("## Retrieval")[0].splitlines()}
    place = cells["| system"].index("retrieval, nDCG@10 × 100")
    assert [cells[name][place] for name in ("| runs/a\\|b", "| peer")] == ["37.5", "–"]
