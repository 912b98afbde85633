"""The whole flow on a tiny real model: made once, gone on with, made again in part, refused at the gate."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from beir import of_sentences
from plain import plain_session
from running import write_recipe

from compressor.artifact.folder import Artifact
from compressor.core.config import load
from compressor.core.errors import ArtifactError, GateError, ModelError, RecipeError
from compressor.flow.base import run
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.models.projection import PROJECTION, Projection
from compressor.models.sentence_model import open_model
from compressor.untrusted.inspection import inspect
from compressor.vectors.codes import Ranges
from exporters.session import OnnxEncoder

RECIPE = """
[teacher]
model = "{teacher}"
[texts]
source = "texts.txt"
heldout = 40
[distil]
layers = [0, 1, 3]
epochs = 3.0
batch_size = 16
warmup_steps = 2
precision = "fp32"
[pca]
dim = 16
[quantize]
[fp16]
[verify]
teacher_cosine_mean = 0.3
teacher_cosine_p1 = 0.0
teacher_cosine_min = -1.0
neighbours_at_10 = 0.2
int8_cosine_mean = 0.9
[bench]
sts = ["sts.csv"]
count = 64
rounds = 2
queries = 20
batch_sizes = [8]
lengths = [8, 32]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Return a folder with a recipe, its texts and an STS file."""
    return write_recipe(tmp_path_factory.mktemp("home"), RECIPE, tiny)


def go(home: Path, *changes: str) -> dict[str, Any]:
    recipe = load(home / "tiny.toml", Recipe, list(changes))
    return run(EmbeddingFlow.of(recipe, home, home / "runs"), "compressor run tiny.toml")


@pytest.fixture(scope="module")
def results(home: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
        return go(home)


def test_prompts_that_pooling_leaves_out_are_refused_before_training(tiny: Path, tmp_path: Path) -> None:
    model = open_model(tiny)
    model.prompts = {"ask": "two dogs : "}
    model.set_pooling_include_prompt(False)
    model.save_pretrained(str(tmp_path / "teacher"), create_model_card=False)
    (tmp_path / "home").mkdir()
    home = write_recipe(tmp_path / "home", RECIPE, tmp_path / "teacher")
    with pytest.raises(ModelError, match=r"its pooling leaves prompts out \(ask\), which a graph of ids cannot$"):
        go(home)
    assert not list((home / "runs").rglob("distil"))


@pytest.fixture
def folder(home: Path, results: dict[str, Any]) -> Path:
    return home / "runs" / "tiny"


def times(folder: Path) -> dict[str, int]:
    """Return when each stage's manifest was written."""
    return {p.parent.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("manifest.json")}


def test_every_stage_leaves_a_whole_folder(folder: Path) -> None:
    names = ["distil", "pca", "quantize", "export", "optimise", "int8", "verify", "ranges", "story", "bench"]
    for name in [*names, "fp16", "artifacts/fp32", "artifacts/fp16", "artifacts/int8"]:
        assert Artifact.open(folder / name).figures["seconds"] >= 0
    assert not [p.name for p in folder.rglob(".*") if p.name != ".lock"], "nothing half-written is left"


def test_results_tell_what_each_stage_did(results: dict[str, Any]) -> None:
    story = {row["stage"]: row for row in results["story"]}
    assert list(story) == ["teacher", "distil", "pca", "quantize", "fp32", "fp16", "int8"]
    assert [row["layers"] for row in story.values()] == [4, 3, 3, 3, 3, 3, 3]
    assert [row["dim"] for row in story.values()] == [32, 32, 16, 16, 16, 16, 16]
    assert story["teacher"]["agreement"]["cosine_mean"] == pytest.approx(1, abs=1e-3)
    assert story["int8"]["size_bytes"] < story["fp32"]["size_bytes"]
    assert story["fp16"]["size_bytes"] < 0.8 * story["fp32"]["size_bytes"]
    assert story["fp16"]["agreement"]["cosine_mean"] == pytest.approx(
        story["fp32"]["agreement"]["cosine_mean"], abs=1e-3
    )
    assert story["fp32"]["sts"]["sts"] == pytest.approx(story["pca"]["sts"]["sts"], abs=1e-3)
    assert all(check["passed"] for check in results["verify"])
    assert results["graphs"]["int8"]["QAttention"] == 3


def test_speed_is_measured_for_every_system_and_the_teacher_is_the_baseline(results: dict[str, Any]) -> None:
    systems = results["bench"]["systems"]
    assert [s["name"] for s in systems] == ["teacher", "student", "torch-int8", "onnx-fp32", "onnx-int8"]
    assert systems[0]["offline"]["ratio"] == 1.0
    for system in systems:
        assert len(system["offline"]["rounds"]) == 2
        assert system["single_stream"]["latency_ms_p50"] <= system["single_stream"]["latency_ms_p99"]
        assert [row["tokens"] for row in system["by_length"]] == [8, 32]
        assert system["peak_memory_bytes"] > 10e6
        assert set(system["sts"]) == {"sts"}


def test_plain_onnxruntime_runs_the_artifact(folder: Path) -> None:
    encoder = OnnxEncoder(folder / "artifacts" / "int8")
    texts = ["the cat sleeps", "a big dog runs here"]
    session = plain_session(folder / "artifacts" / "int8" / "onnx" / "model.onnx")
    ids, mask = encoder.pad(encoder.tokenize(texts))
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    _, vectors = session.run(None, feeds)
    np.testing.assert_allclose(vectors, encoder.encode(texts), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_artifacts_carry_the_ranges_of_int8_vectors(folder: Path, results: dict[str, Any]) -> None:
    kept = Artifact.open(folder / "artifacts" / "int8").figures["output_vectors"]
    assert [figures["bytes"] for figures in kept.values()] == [64, 16, 2]
    ranges = [Ranges.load(folder / name, 16).bounds for name in ("ranges", "artifacts/int8", "artifacts/fp32")]
    np.testing.assert_array_equal(ranges[0], ranges[1])
    np.testing.assert_array_equal(ranges[0], ranges[2])
    assert results["languages"] is None


def test_the_artifacts_carry_the_way_from_the_teachers_space(folder: Path) -> None:
    own = Projection.load(folder / "pca")
    assert own is not None
    assert own.components.shape == (16, 32)
    for name in ("fp32", "fp16", "int8"):
        artifact = Artifact.open(folder / "artifacts" / name)
        assert artifact.figures["teacher_dim"] == 32
        assert (artifact.folder / PROJECTION).read_bytes() == (folder / "pca" / PROJECTION).read_bytes()
        found = {one.check: one.found for one in inspect(artifact.folder)}
        assert found["projection"] == "turns the teacher's vectors of 32 into ones of 16"


def test_the_report_is_one_page_of_this_run(folder: Path, results: dict[str, Any]) -> None:
    page = (folder / "report.html").read_text()
    assert "compressor run tiny.toml" in page
    assert json.loads((folder / "results.json").read_text())["name"] == "tiny"


def test_a_second_run_makes_nothing_again(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    before = times(folder)
    go(home)
    assert times(folder) == before


@pytest.mark.slow
def test_a_changed_setting_makes_again_only_what_depends_on_it(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    before = times(folder)
    go(home, "int8.embeddings=32", "bench.rounds=1")
    after = times(folder)
    changed = {name for name in after if after[name] != before[name]}
    assert "ranges" in after
    assert changed == {"int8", "verify", "artifacts/fp32", "artifacts/fp16", "artifacts/int8", "story", "bench"}


@pytest.mark.slow
def test_a_damaged_stage_is_made_again(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    path = folder / "pca" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    go(home, "bench.rounds=1")
    Artifact.open(folder / "pca")


def test_the_gate_names_figure_and_bar_and_nothing_is_handed_out(
    home: Path, monkeypatch: pytest.MonkeyPatch, results: dict[str, Any]
) -> None:
    monkeypatch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    bar = r"must be >= 1; the bar is verify\.teacher_cosine_mean$"
    line = rf"^verify fp32: agreement with the teacher: cosine_mean = 0\.\d+, {bar}"
    with pytest.raises(GateError, match=line):
        go(home, "name=strict", "verify.teacher_cosine_mean=1")
    assert not (home / "runs" / "strict" / "artifacts").exists()
    assert not (home / "runs" / "strict" / "results.json").exists()


def test_a_second_run_in_the_same_folder_is_refused(
    home: Path, folder: Path, results: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from compressor.artifact.workspace import Workspace

    with (
        Workspace(folder).lock(),
        pytest.raises(ArtifactError, match="another run is at work in this folder"),
    ):
        go(home)


def test_steps_without_a_section_are_left_out(home: Path, tiny: Path, results: dict[str, Any]) -> None:
    text = RECIPE.format(teacher=tiny.as_posix())
    kept = [part for part in text.split("\n[") if not part.startswith(("distil", "pca", "quantize", "fp16"))]
    (home / "plain.toml").write_text("\n[".join(kept))
    recipe = load(home / "plain.toml", Recipe, ["bench.rounds=1", "verify.teacher_cosine_mean=0.99"])
    made = run(EmbeddingFlow.of(recipe, home, home / "runs"), "compressor run plain.toml")
    assert [row["stage"] for row in made["story"]] == ["teacher", "fp32", "int8"]
    assert [s["name"] for s in made["bench"]["systems"]] == ["teacher", "onnx-fp32", "onnx-int8"]
    assert made["story"][1]["agreement"]["cosine_min"] > 0.999


def go_small(home: Path, tiny: Path, name: str, *changes: str) -> dict[str, Any]:
    """Walk the flow without pca and quantize."""
    parts = RECIPE.format(teacher=tiny.as_posix()).split("\n[")
    kept = [part for part in parts if not part.startswith(("pca", "quantize"))]
    (home / f"{name}.toml").write_text("\n[".join(kept))
    recipe = load(home / f"{name}.toml", Recipe, ["bench.rounds=1", "bench.lengths=[]", *changes])
    return run(EmbeddingFlow.of(recipe, home, home / "runs"), f"compressor run {name}.toml")


def test_a_static_student_goes_all_the_way(home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporters.precision.tables._TABLE_ROWS", 90)  # the tiny table is a vocabulary as well
    made = go_small(home, tiny, "static", "distil.layers=0")
    story = {row["stage"]: row for row in made["story"]}
    assert list(story) == ["teacher", "distil", "fp32", "fp16", "int8"]
    assert [row["dim"] for row in story.values()] == [32] * 5
    assert story["distil"]["what"].startswith("one vector a token; ")
    assert story["distil"]["layers"] == 0
    assert 0.3 < story["int8"]["agreement"]["cosine_mean"] < 1
    assert story["fp32"]["agreement"] == pytest.approx(story["distil"]["agreement"], abs=1e-4)
    card = (home / "runs" / "static" / "artifacts" / "int8" / "README.md").read_text("utf-8")
    assert "one vector a token, pooling" in card
    assert "QAttention" not in made["graphs"]["int8"]


def test_a_student_of_shorter_vectors_needs_no_pca(home: Path, tiny: Path) -> None:
    made = go_small(home, tiny, "short", "distil.dim=8")
    story = {row["stage"]: row for row in made["story"]}
    assert [row["dim"] for row in story.values()] == [32, 8, 8, 8, 8]
    for name in ("distil", "fp32", "int8"):
        # Lifted back into the teacher's space, as after a pca.
        assert 0.5 < story[name]["agreement"]["cosine_mean"] < 1, name
    assert "agreement" in (home / "runs" / "short" / "report.html").read_text().lower()


def test_what_the_teacher_finds_is_measured_once_and_gated(
    home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compressor.vectors import retrieval

    of_sentences(home / "beir")
    sides, searched = retrieval.sides, list[str]()

    def watched(encoder: Any, collection: Any) -> Any:
        searched.append(type(encoder).__name__)
        return sides(encoder, collection)

    monkeypatch.setattr(retrieval, "sides", watched)
    made = go_small(home, tiny, "searched", 'bench.retrieval=["beir"]', "verify.retrieval_share=0.1")
    # The teacher and the student; the artifacts in the gate, and with fp16 in the story.
    assert sorted(searched) == ["OnnxEncoder"] * 5 + ["TorchEncoder"] * 2
    found = {row["stage"]: row["retrieval"]["beir"]["ndcg_at_10"] for row in made["story"]}
    checks = {row["artifact"]: row for row in made["verify"] if row["figure"] == "ndcg_at_10_of_teachers"}
    for name in ("fp32", "int8"):
        assert checks[name]["value"] == pytest.approx(found[name] / found["teacher"])
        assert checks[name]["bar"] == 0.1
    card = (home / "runs" / "searched" / "artifacts" / "int8" / "README.md").read_text("utf-8")
    assert "| retrieval | ndcg_at_10_of_teachers | " in card
    assert "| agreement by length | cosine_mean_to_32 | " in card
    assert "The student was trained on texts of at most 14 tokens (99 % of them); it reads 64: agreement" in card


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["distil.dim=8"], "pca.dim = 16: the student's vectors are short already; leave one section out"),
        (["distil.matryoshka=[8]"], "pca.dim = 16: the student's vectors are short already; leave one section out"),
        (["distil.layers=0"], "quantize: PyTorch has no int8 form of a static student; leave the section out"),
        (["verify.retrieval_share=0.9"], "verify.retrieval_share = 0.9: needs a collection in bench.retrieval"),
        (["distil.mse=0"], "distil.mse = 0 with no other loss: give at least one of them weight"),
    ],
)
def test_sections_that_do_not_go_together(home: Path, changes: list[str], line: str) -> None:
    with pytest.raises(RecipeError) as caught:
        go(home, "name=odd", *changes)
    assert str(caught.value) == line
    assert not list((home / "runs" / "odd").rglob("manifest.json"))


def test_a_second_process_takes_part_in_the_training_and_writes_nothing(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the student made there is nothing to take part in; without it, it is trained and not kept.

    The first process is not there to be met: tests/flow/test_torchrun.py has both.
    """
    monkeypatch.setenv("COMPRESSOR_CACHE", str(home / "cache"))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    before, trained, met = times(folder), [], list[Path]()
    monkeypatch.setattr("compressor.flow.embedding.check_together", lambda *before: met.append(before[-1]))
    monkeypatch.setattr(EmbeddingFlow, "_train", lambda self, stage, kept, to: trained.append(to.folder))
    assert go(home, "bench.rounds=1") == {}
    assert not trained
    assert go(home, "name=beside") == {}
    assert [path.exists() for path in trained] == [False]
    assert [path.parent for path in met] == [folder, folder.parent / "beside"]
    assert not (home / "runs" / "beside" / "distil").exists()
    assert times(folder) == before


@pytest.mark.slow
def test_ctrl_c_in_training_stops_cleanly_and_the_same_command_goes_on(home: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("compressor")
    changes = ["name=stopped", "distil.epochs=12", "distil.checkpoint_steps=20", "bench.rounds=1", "bench.lengths=[]"]
    words = [word for change in changes for word in ("--set", change)]
    (home / "short.toml").write_text((home / "tiny.toml").read_text().replace("[quantize]\n[fp16]\n", ""))
    command = [str(program), "run", "short.toml", "--runs", str(tmp_path), *words]
    environment = os.environ | {"COMPRESSOR_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}

    def hear() -> None:  # a shell's background job hands on a Ctrl-C that is ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    first = subprocess.Popen(command, cwd=home, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=hear)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "stopped").glob(".distil-checkpoints-*/checkpoint-*/trainer_state.json")):
        assert first.poll() is None, first.stderr and first.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 130
    assert err.splitlines()[-1] == "stopped; the same command goes on from the last finished step"
    assert not (tmp_path / "stopped" / "distil").exists()
    assert not list((tmp_path / "stopped").glob(".*.partial-*"))
    kept = sorted((tmp_path / "stopped").glob(".distil-checkpoints-*/checkpoint-*"))[-1]
    done = json.loads((kept / "trainer_state.json").read_text())["global_step"]

    second = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    student = Artifact.open(tmp_path / "stopped" / "distil")
    assert student.figures["resumed_at_step"] >= done > 0
    assert not list((tmp_path / "stopped").glob(".distil-checkpoints-*"))
