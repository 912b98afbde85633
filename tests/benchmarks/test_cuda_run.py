"""A run on a card with a CPU in its place: what it carries, where one that was cut goes on, and the whole way."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import sentences
from cards import SMALL, row, system

from benchmarks.cuda.checks import parity
from benchmarks.cuda.material import FORMS, Material
from benchmarks.cuda.pack import INDEX, pack, unpack
from benchmarks.cuda.place import REHEARSAL
from benchmarks.cuda.plan import MODES, Cell, Plan
from benchmarks.cuda.prepare import Prepare
from benchmarks.cuda.results import Missed, Row
from benchmarks.cuda.run import Run
from benchmarks.cuda.runners import OnnxRecorded, TorchRunner, open_system, record
from benchmarks.cuda.systems import AGAIN, BASELINE, System
from compressor.core.errors import ArtifactError, CompressorError, GateError, RecipeError
from compressor.models.source import find
from exporters.session import OnnxEncoder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, make_model: Callable[..., Path]) -> Material:
    """Return what is carried of a tiny teacher of four layers, and of one layer of it."""
    home = tmp_path_factory.mktemp("cuda")
    Prepare(teacher="tiny", layers=(1,)).make(find(str(make_model())), sentences(60), "sentences", home / "made")
    pack(home / "made", home / "parts", "key")
    unpack(home / "parts", home / "joined")
    return Material(home / "joined")


def test_the_material_is_whole(material: Material, tiny: Path) -> None:
    stated = material.stated
    assert [(student.layers, student.made) for student in stated.students] == [
        (4, "the teacher itself"),
        (1, "layers 0 of 4 copied, untrained: for speed alone"),
    ]
    assert {(graph.layers, graph.form) for graph in stated.graphs} == {(n, form) for n in (4, 1) for form in FORMS}
    for graph in stated.graphs:
        vectors = OnnxEncoder(material.graph(graph.layers, graph.form)).encode(material.checked)
        assert np.abs(vectors - material.reference(graph.layers)).max() < (1e-5 if graph.form == "fp32" else 5e-3)
    assert not np.allclose(material.reference(4), material.reference(1), atol=0.05)
    assert {path.name for path in material.teacher.iterdir()} >= {"model.safetensors", "modules.json", "tokenizer.json"}
    assert not (material.teacher / "README.md").exists()


def test_recorded_launches_give_what_plain_ones_do(material: Material) -> None:
    """On the CPU nothing is recorded; inputs and output have places of their own as on a card."""
    random = np.random.default_rng(0)
    ids, mask = random.integers(5, 60, (3, 12)), np.ones((3, 12), np.int64)
    encoder = OnnxEncoder(material.graph(4, "fp32"))
    recorded = OnnxRecorded(material.graph(4, "fp32"), REHEARSAL, 3, 12)
    for _ in range(2):
        np.testing.assert_allclose(recorded.run_ids(ids, mask), encoder.run_ids(ids, mask), atol=1e-6)
        ids = random.integers(5, 60, (3, 12))
    with pytest.raises(CompressorError, match="recorded launches take ids of one shape, no texts"):
        recorded.encode(["a text"])
    teacher = open_system(System("t", "t", 4, torch="fp32"), material, REHEARSAL)
    assert isinstance(teacher, TorchRunner)
    assert np.abs(teacher.run_ids(ids, mask) - encoder.run_ids(ids, mask)).max() < 1e-5
    again = record(System("t", "t", 4, torch="fp32", recorded_of="t"), teacher, material, REHEARSAL, 3, 12)
    np.testing.assert_allclose(again.run_ids(ids, mask), teacher.run_ids(ids, mask), atol=1e-6)


def test_a_run_that_is_cut_loses_the_last_row_alone(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, measured_cells = tmp_path / "results.json", list[str]()
    monkeypatch.setattr("benchmarks.cuda.run.examine", lambda *_: ([], {}))

    def cut(self: Run, cell: Cell, systems: Any) -> Row:
        measured_cells.append(cell.key)
        if len(measured_cells) == 3:
            raise KeyboardInterrupt
        return row(cell)

    monkeypatch.setattr(Run, "row", cut)
    with pytest.raises(KeyboardInterrupt):
        Run(material, REHEARSAL, SMALL, "command").run(path)
    assert [one["key"] for one in json.loads(path.read_text())["rows"]] == ["ids 1 x 16", "text 1 x 16"]
    Run(material, REHEARSAL, SMALL, "command").run(path)
    first, rest = ["ids 1 x 16", "text 1 x 16", "ids 2 x 16"], ["ids 2 x 16", "text 2 x 16", "recorded 1 x 16"]
    assert measured_cells == first + rest
    Run(material, REHEARSAL, SMALL, "command").run(path)
    assert len(measured_cells) == 6
    with pytest.raises(RecipeError, match="its material is another"):
        Run(material, REHEARSAL, Plan(), "command").run(path)


def test_other_students_or_texts_are_another_material(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.cuda.run.examine", lambda *_: ([], {}))
    monkeypatch.setattr(Run, "row", lambda self, cell, systems: row(cell))
    path, joined = tmp_path / "results.json", tmp_path / "joined"
    Run(material, REHEARSAL, SMALL, "command").run(path)
    shutil.copytree(material.folder, tmp_path / "made", ignore=shutil.ignore_patterns(INDEX))
    texts = tmp_path / "made" / "texts.json"
    texts.write_text(texts.read_text().replace(material.timed[0], "another"))
    pack(tmp_path / "made", tmp_path / "parts", "key")
    with pytest.raises(ArtifactError, match=r"index\.json: not there; python -m benchmarks\.cuda join writes it$"):
        Run(Material(tmp_path / "made"), REHEARSAL, SMALL, "command").run(path)
    unpack(tmp_path / "parts", joined)
    with pytest.raises(RecipeError, match="its material is another"):
        Run(Material(joined), REHEARSAL, SMALL, "command").run(path)


def test_no_time_for_another_row_leaves_it(material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.cuda.run.examine", lambda *_: ([], {}))
    monkeypatch.setattr(Run, "row", lambda self, cell, systems: row(cell))
    Run(material, REHEARSAL, SMALL, "command").run(tmp_path / "results.json", seconds=0.0)
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["rows"] == []
    assert len(written["planned"]) == 5


def test_a_card_that_fails_everything_ends_the_run(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.cuda.run.examine", lambda *_: ([], {}))
    broken = [Missed(BASELINE, "CUDA error: an illegal memory access")]
    monkeypatch.setattr(Run, "row", lambda self, cell, systems: Row(cell, cell.texts, 2, broken))
    with pytest.raises(CompressorError, match=r"^ids 1 x 16: nothing could be measured: CUDA error: an illegal memory"):
        Run(material, REHEARSAL, SMALL, "command").run(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == []


def test_a_check_that_is_missed_ends_a_run_that_is_written(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = parity(system("onnx-6-fp32"), np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32))
    monkeypatch.setattr("benchmarks.cuda.run.examine", lambda *_: ([missed], {"onnx-6-fp32": "far off"}))
    monkeypatch.setattr(Run, "row", lambda self, cell, systems: row(cell))
    figure = r"parity with PyTorch fp32 on a CPU: largest difference = 1, must be <= 0\.0001; the bar is fixed"
    line = rf"^verify onnx-6-fp32: {figure}$"
    for _ in range(2):  # also where every row is there already
        with pytest.raises(GateError, match=line):
            Run(material, REHEARSAL, SMALL, "command").run(tmp_path / "results.json")
    assert len(json.loads((tmp_path / "results.json").read_text())["rows"]) == 5


@pytest.mark.slow
def test_the_whole_way_is_rehearsed_without_a_card(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences(400)))
    words = ["rehearse", "--out", str(tmp_path / "run"), "--teacher", str(tiny), "--layers", "1",
             "--texts", str(tmp_path / "texts.txt")]  # fmt: skip
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COMPRESSOR_CUDA_SITE")}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cuda", *words],
        cwd=ROOT,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "rehearsal.json").read_text())
    assert results["rehearsal"] is True
    assert results["failed"] == {}
    assert all(check["passed"] for check in results["checks"])
    keys = {f"{mode} {batch} x {tokens}" for mode in MODES for batch in (1, 2) for tokens in (8, 16)}
    keys |= {f"recorded 1 x {tokens}" for tokens in (8, 16)}
    assert {row["key"] for row in results["rows"]} == set(results["planned"]) == keys
    for one in results["rows"]:
        assert [system for system in one["systems"] if "reason" in system] == []
        names = {system["name"] for system in one["systems"]}
        own = {"torch-fp16-recorded", "onnx-4-recorded", "onnx-1-recorded"}
        plain = {AGAIN, "torch-fp16-compiled", "torch-bf16", "onnx-4-fp16", "onnx-4-fp32"}
        assert {BASELINE, "onnx-4-fp16-fused", "onnx-1-fp16-fused"} <= names
        assert names & (own | plain) == (own if one["mode"] == "recorded" else plain)
        assert all(system["texts_per_second"] > 0 and system["ratio"] > 0 for system in one["systems"])
