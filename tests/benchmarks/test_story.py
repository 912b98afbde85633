"""The story tells each stage's quality, size and doing from what is on disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beir import of_sentences
from benched import benched, system_figures
from builders import sentences
from graphs import draft, make_artifacts

from benchmarks.quality.story import Story, parameters, row, what
from benchmarks.quality.sts import Sts
from benchmarks.results import Quality
from compressor.artifact.folder import size_bytes
from compressor.artifact.workspace import Model
from compressor.models.agreement import Heldout
from compressor.models.sentence_model import open_model
from compressor.models.source import Source
from compressor.models.torch_int8 import TorchInt8
from compressor.texts.collections import Collection
from compressor.vectors.index import Index, open_index
from compressor.vectors.pca import Pca
from compressor.vectors.retrieval import Searches

TEXTS = sentences(160)
PAIRS = Sts("pairs", TEXTS[:20], TEXTS[20:40], [float(i % 6) for i in range(20)])


@pytest.fixture(scope="module")
def heldout(tiny: Path) -> Heldout:
    return Heldout(TEXTS[40:80], open_model(tiny).encode(TEXTS[40:80]))


@pytest.fixture(scope="module")
def steps(tiny: Path, heldout: Heldout, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """Return a run's steps without distillation: teacher, its vectors cut from 32 to 4, int8 and graphs."""
    home = tmp_path_factory.mktemp("steps")
    pca, int8 = draft(home / "pca"), draft(home / "quantize")
    Pca(dim=4).run(tiny, TEXTS, heldout, pca)
    TorchInt8().run(pca.folder, int8)
    make_artifacts(pca.folder, home)
    return {
        "teacher": Source(tiny, "k", {}, "tiny", "folder"),
        "pca": Model(pca.folder, "p", pca.figures | {"seconds": 2.5}),
        "quantize": Model(int8.folder, "q", int8.figures),
        "fp32": Model(home / "fp32", "f"),
        "int8": Model(home / "int8", "i"),
    }


def test_every_stage_has_a_row(steps: dict[str, Model], heldout: Heldout, tmp_path: Path) -> None:
    made = draft(tmp_path / "story")
    Story().run(steps, heldout, [PAIRS], made)
    rows = {row["stage"]: row for row in json.loads((made.folder / "story.json").read_text())}
    assert list(rows) == ["teacher", "pca", "quantize", "fp32", "int8"]
    assert [r["dim"] for r in rows.values()] == [32, 4, 4, 4, 4]
    assert [r["layers"] for r in rows.values()] == [4] * 5
    assert [r["seconds"] for r in rows.values()] == [None, 2.5, None, None, None]
    assert [r["size_bytes"] for r in rows.values()] == [size_bytes(step.folder) for step in steps.values()]
    assert all(list(r["sts"]) == ["pairs"] for r in rows.values())
    assert rows["teacher"]["agreement"]["cosine_min"] == pytest.approx(1, abs=1e-5)
    assert rows["teacher"]["agreement"]["neighbours_at_10"] == 1
    # An eighth of the vector, lifted back: close to the teacher's, not the same.
    for name in list(rows)[1:]:
        assert 0.8 < rows[name]["agreement"]["cosine_mean"] < 1 - 1e-3, name
        assert 0.4 < rows[name]["agreement"]["neighbours_at_10"] < 1, name
    assert rows["fp32"]["agreement"] == pytest.approx(rows["pca"]["agreement"], abs=1e-5)
    assert rows["fp32"]["sts"] == pytest.approx(rows["pca"]["sts"], abs=1e-3)


def test_every_stage_searches_by_itself_and_in_the_teachers_index(
    steps: dict[str, Model], heldout: Heldout, tmp_path: Path
) -> None:
    made, collection = draft(tmp_path / "story"), Collection.read(of_sentences(tmp_path / "sentences"))
    Story().run(steps, heldout, [PAIRS], made, Searches([collection]))
    rows = {row["stage"]: row for row in json.loads((made.folder / "story.json").read_text())}
    found = {name: row["retrieval"]["sentences"] for name, row in rows.items()}
    assert found["teacher"]["ndcg_at_10"] > 50  # the same words in another order
    assert "on_teachers_index" not in found["teacher"]
    for name in ("pca", "fp32", "int8"):
        for own in (found[name], found[name]["on_teachers_index"]):
            assert 0 < own["ndcg_at_10"] <= 100
    assert found["fp32"]["ndcg_at_10"] == pytest.approx(found["pca"]["ndcg_at_10"], abs=0.1)
    # The index is the teacher's, reduced: what the reduced model finds there is what it finds in its own.
    assert found["pca"]["on_teachers_index"] == pytest.approx(
        {name: value for name, value in found["pca"].items() if name != "on_teachers_index"}, abs=0.5
    )
    Index().run(steps["teacher"].folder, [collection], index := draft(tmp_path / "index"))
    Story().run(steps, heldout, [PAIRS], again := draft(tmp_path / "again"), open_index(index.folder, [collection]))
    indexed = json.loads((again.folder / "story.json").read_text())
    assert [row["retrieval"]["sentences"] for row in indexed] == list(found.values())
    assert rows["teacher"]["agreement"]["ndcg_at_10"] == pytest.approx(100)
    assert 40 < rows["pca"]["agreement"]["ndcg_at_10"] < 100


def test_graphs_without_a_projection_are_compared_as_they_are(heldout: Heldout, artifacts: Callable[..., Path]) -> None:
    told = row("fp32", Model(artifacts() / "fp32", "f"), heldout, None, [PAIRS])
    assert told["agreement"]["cosine_min"] == pytest.approx(1, abs=1e-5)
    assert (told["dim"], told["layers"], told["seconds"]) == (32, 4, None)


def test_quality_is_the_encoders_own(steps: dict[str, Model], heldout: Heldout, tiny: Path) -> None:
    model = open_model(tiny)
    cosine = np.einsum("nd,nd->n", model.encode(PAIRS.first), model.encode(PAIRS.second))
    ranks = np.corrcoef(np.argsort(np.argsort(cosine)), _ranks(PAIRS.scores))[0, 1]
    assert row("teacher", steps["teacher"], heldout, None, [PAIRS])["sts"]["pairs"] == pytest.approx(100 * ranks)


def _ranks(values: list[float]) -> list[float]:
    """Return mean ranks, equal values sharing theirs."""
    return [np.mean([i for i, v in enumerate(sorted(values)) if v == value]) for value in values]


def test_parameters_are_counted(
    steps: dict[str, Model], tiny: Path, make_model: Callable[..., Path], artifacts: Callable[..., Path]
) -> None:
    own = sum(p.numel() for p in open_model(tiny).parameters())
    dense = sum(p.numel() for p in open_model(make_model(dense=16)).parameters())
    assert dense == own + 32 * 16 + 16
    assert parameters(tiny) == own
    assert parameters(make_model(dense=16)) == dense
    assert parameters(steps["pca"].folder) == sum(p.numel() for p in open_model(steps["pca"].folder).parameters())
    # int8 adds a scale an output channel; graphs drop the unused pooler and add constants.
    assert 1 < parameters(steps["quantize"].folder) / parameters(steps["pca"].folder) < 1.06
    for stage in ("plain", "fp32", "int8"):
        assert parameters(artifacts(dense=16) / stage) == pytest.approx(dense - 32 * 33, rel=0.06), stage


@pytest.mark.parametrize(
    ("name", "figures", "told"),
    [
        (
            "distil",
            {"layers": [0, 2, 5], "train_seconds": 90.0, "texts_seen": 12_345},
            "layers 0, 2, 5 kept; 12,345 texts imitated in 1.5 min",
        ),
        (
            "pca",
            {"variance_kept": 0.9512, "centered": True},
            "principal components, mean taken off; 95.1 % of the variance",
        ),
        (
            "pca",
            {"variance_kept": 0.5, "centered": False},
            "principal components, mean left in; 50.0 % of the variance",
        ),
        ("distil", {}, "teacher as it is"),
        ("pca", {}, "vectors as they are"),
        ("quantize", {}, "PyTorch dynamic int8, one scale a channel"),
        ("fp32", {}, "one ONNX graph, fused"),
        ("int8", {}, "ONNX int8, one scale a channel; vocabulary one scale a row"),
    ],
)
def test_what_a_stage_did(name: str, figures: dict[str, Any], told: str) -> None:
    assert what(name, Model(Path("x"), "k", figures)) == told


def test_the_teacher_is_named_with_its_origin() -> None:
    assert what("distil", Source(Path("x"), "k", {}, "org/name", "local cache")) == "org/name, from local cache"


def test_measured_readers_have_the_answers_of_their_own_stage() -> None:
    story = [
        {"stage": "teacher", "parameters": 30, "size_bytes": 120, "answers": {"f1": 90.0}},
        {"stage": "distil-1", "parameters": 20, "size_bytes": 80, "answers": {"f1": 60.0}},
        {"stage": "int8", "parameters": 21, "size_bytes": 20, "answers": {"f1": 88.5}},
    ]
    found = benched(system_figures("onnx-int8", "int8"), system_figures("teacher", "teacher"))
    int8, teacher = found.with_story(story).systems
    assert (int8.name, int8.quality) == ("onnx-int8", Quality(answers={"f1": 88.5}, parameters=21))
    assert (teacher.name, teacher.quality) == ("teacher", Quality(answers={"f1": 90.0}, parameters=30))
    assert (int8.offline.ratio.median, int8.size_bytes) == (4.0, 1000)  # its own are as they were
