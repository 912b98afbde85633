"""The search keeps the fastest form inside the gate, says why, goes on where it stopped, and writes its choice down."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from builders import sentences
from graphs import draft
from searching import faster

from benchmarks.inspect import facts
from compressor.artifact.folder import Artifact, writing
from compressor.artifact.layout import GRAPH
from compressor.artifact.manifest import read_manifest
from compressor.core.encoder import length_sorted_batches
from compressor.core.errors import ArtifactError, GateError, TextError
from compressor.machine.describe import features
from exporters.graph.files import run_operators
from exporters.precision.int8 import OnnxInt8
from exporters.runtime.names import CPU
from exporters.runtime.running import Running
from exporters.search import trials as module
from exporters.search.embedding import EmbeddingSubject, Search
from exporters.search.forms import Form
from exporters.session import OnnxEncoder

SAMPLE, HELDOUT = sentences(80, seed=1), sentences(100, seed=2)
QUICK: dict[str, Any] = {"count": 64, "turns": 3, "cosine_min": 0.5, "neighbours_at_10": 0.5}


def searched(fp32: Path, to: Path, kept: Path, **options: Any) -> dict[str, Any]:
    """Search and return what ``search.json`` says."""
    stage = Search(**QUICK | options)
    with writing(to, "search", "key", stage.model_dump(mode="json")) as made:
        stage.run(fp32, OnnxInt8(), SAMPLE, HELDOUT, kept, made)
    result: dict[str, Any] = json.loads((to / "search.json").read_text("utf-8"))
    return result


def test_it_runs_and_what_it_writes_is_an_artifact(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    fp32 = artifacts("wide") / "fp32"
    result = searched(fp32, tmp_path / "made", tmp_path / "kept")
    assert Artifact.open(tmp_path / "made").figures["operators"] == run_operators(tmp_path / "made" / GRAPH)
    stages = [row["stage"] for row in result["trials"]]
    assert stages[0] == "start"
    assert set(stages) >= {
        "smooth",
        "ranges",
        "weights",
        "kept",
        "attention",
        "gelu",
        "skip_normalization",
        "written",
        "batch_tokens",
        "equal_lengths",
    }
    assert all(row["verdict"] for row in result["trials"])
    batch_row = next(row for row in result["trials"] if row["name"].startswith("int8 batch"))
    assert batch_row["verdict"].startswith("outside the gate: ")
    page = (tmp_path / "made" / "search.md").read_text("utf-8")
    assert all(row["name"] in page for row in result["trials"])
    exact, own = (OnnxEncoder(folder).encode(HELDOUT) for folder in (fp32, tmp_path / "made"))
    assert (exact * own).sum(axis=1).mean() > 0.98


def test_the_fastest_inside_the_gate_is_kept(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = faster(monkeypatch, {"separate": 1.05, "products": 1.2, "= 512": 1.3, "int8 batch": 9.0, "choice": 1.5})
    result = searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept")
    assert not any(name.startswith("int8 batch") for name in asked)  # however fast: its vectors depend on their batch
    assert result["choice"]["form"]["attention"] == "products"
    assert result["choice"]["running"]["batch_tokens"] == 512
    assert result["choice"]["ratio"]["median"] == 1.5
    assert run_operators(tmp_path / "made" / GRAPH)["If"] == 2
    choice = read_manifest(tmp_path / "made")["figures"]["choice"]
    assert choice == result["choice"]
    assert choice["cpu_features"] == features()
    assert choice["made_for"] == "this"
    stated = f"searched for {choice['cpu']} with onnxruntime {onnxruntime.__version__}"
    assert facts(tmp_path / "made")["form"] == stated
    monkeypatch.setattr(onnxruntime, "__version__", "9.9.9")
    assert facts(tmp_path / "made")["form"] == f"{stated}; 9.9.9 runs here: compressor optimise chooses again"


def test_a_gain_within_its_spread_is_none(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, {"products": 1.004, "tanh": 1.004})
    result = searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept", loss=0.0)
    assert result["choice"]["form"]["attention"] == "fused"
    assert result["choice"]["running"] == Running().as_dict()


def test_a_faster_form_that_loses_quality_is_refused(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def cut(model: Any) -> int:
        """Put Relu in Gelu's place: faster, and another model."""
        found = [node for node in model.graph.node if node.op_type == "Gelu"]
        for node in found:
            node.op_type, node.domain = "Relu", ""
        return len(found)

    faster(monkeypatch, {"tanh": 2.0})
    monkeypatch.setattr("exporters.search.forms.tanh_gelu", cut)
    result = searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept")
    assert result["choice"]["form"]["gelu"] == "alone"
    row = next(row for row in result["trials"] if "gelu tanh" in row["name"])
    assert row["ratio"] is None
    assert row["verdict"].startswith("outside the gate: cosine_m")


def test_forms_that_cannot_be_written_say_so(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, {})
    result = searched(artifacts("mpnet") / "fp32", tmp_path / "made", tmp_path / "kept", cosine_mean=0.5)
    verdicts = {row["name"]: row["verdict"] for row in result["trials"] if row["stage"] == "attention"}
    assert len(verdicts) == 3
    assert all(v.startswith("cannot be written: attention = ") for v in verdicts.values())


def test_a_stopped_search_goes_on(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, {"products": 1.2})
    fp32 = artifacts("wide") / "fp32"
    written = module.Forms.write

    def stop(self: Any, form: Form, path: Path) -> None:
        if form.attention == "products":
            raise KeyboardInterrupt
        written(self, form, path)

    monkeypatch.setattr(module.Forms, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        searched(fp32, tmp_path / "made", tmp_path / "kept")
    assert not (tmp_path / "made").exists()
    made = []

    def count(self: Any, form: Form, path: Path) -> None:
        made.append(form.attention)
        written(self, form, path)

    monkeypatch.setattr(module.Forms, "write", count)
    again = searched(fp32, tmp_path / "made", tmp_path / "kept")
    assert set(made) == {"products"}  # all before it was there already
    fresh = searched(fp32, tmp_path / "fresh", tmp_path / "other")
    assert again["trials"] == fresh["trials"]
    assert (tmp_path / "made" / GRAPH).read_bytes() == (tmp_path / "fresh" / GRAPH).read_bytes()


def test_any_cpu_gets_the_form_that_suits_most(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    result = searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept", cpu="any")
    assert [row["stage"] for row in result["trials"]] == ["start"]
    choice = result["choice"]
    assert (choice["cpu"], choice["cpu_features"], choice["ratio"]) == ("any", [], None)
    assert choice["form"] == Form().model_dump()
    assert OnnxEncoder(tmp_path / "made").running == Running()
    weights = [t for t in module.run_operators(tmp_path / "made" / GRAPH)]
    assert "QAttention" in weights


def test_the_encoder_runs_as_the_manifest_says_on_this_cpu_alone(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, {"= 128": 1.3, "arena": 1.3, "equal_lengths": 1.1})
    searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept")
    encoder = OnnxEncoder(tmp_path / "made", threads=2)
    assert encoder.running == Running(batch_tokens=128, arena=False, equal_lengths=True)
    needs = read_manifest(tmp_path / "made")["figures"]["needs"]
    assert needs == {"session_options": {"enable_cpu_mem_arena": False}}
    own = encoder.encode(HELDOUT)
    assert np.abs(own - OnnxEncoder(tmp_path / "made", running=Running()).encode(HELDOUT)).max() < 1e-5
    monkeypatch.setattr("exporters.runtime.running.features", lambda: ["sve", "avx2"])
    assert OnnxEncoder(tmp_path / "made").running == Running()


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"threads": 0}, "running.threads = 0: must be a whole number from 1 to 1024"),
        ({"threads": True}, "running.threads = True: must be a whole number from 1 to 1024"),
        ({"batch_tokens": "64"}, "running.batch_tokens = '64': must be a whole number from 1 to 2147483648"),
        ({"arena": 1}, "running.arena = 1: must be true or false"),
        (
            {"affinity": 1},
            "running.affinity: no such setting; known are arena, batch_tokens, bf16_products, "
            "equal_lengths, spinning, threads",
        ),
    ],
)
def test_settings_that_are_none_are_refused(stated: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        Running.read(stated)
    sound = Running(2, 128, True, False, False)
    assert Running.read(sound.as_dict()) == sound


@pytest.mark.parametrize("close", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_products_in_bf16_are_tried_on_arm_and_judged(
    close: bool, artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = faster(monkeypatch, {"bf16_products": 1.5})
    figures, told = EmbeddingSubject.figures, list[Running]()

    def judged(self: EmbeddingSubject, folder: Path, running: Running | None = None) -> dict[str, float]:
        if running is not None:
            told.append(running)
        return figures(self, folder, running) | ({} if running is None or close else {"cosine_mean": 0.5})

    monkeypatch.setattr(EmbeddingSubject, "figures", judged)
    monkeypatch.setattr(module, "bf16_on_arm", lambda: True)
    result = searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept")
    assert [running.bf16_products for running in told] == [True]
    assert ("bf16_products = True" in asked) is close
    (row,) = [row for row in result["trials"] if row["stage"] == "bf16_products"]
    assert row["verdict"].startswith("kept" if close else "outside the gate: cosine_mean = 0.5")
    assert Running.load(tmp_path / "made").bf16_products is close
    needs = read_manifest(tmp_path / "made")["figures"]["needs"]["session_options"]
    assert needs == ({"mlas.enable_gemm_fastmath_arm64_bfloat16": "1"} if close else {})


def test_a_choice_for_another_provider_runs_nothing_on_this_one(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, {"= 512": 1.3})
    searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept")
    choice = read_manifest(tmp_path / "made")["figures"]["choice"]
    assert choice["provider"] == CPU
    told = choice | {"provider": "OpenVINOExecutionProvider:NUM_STREAMS=2"}
    monkeypatch.setattr("exporters.runtime.running.own_manifest", lambda folder: {"figures": {"choice": told}})
    assert Running.load(tmp_path / "made") == Running()
    assert Running.load(tmp_path / "made", "OpenVINOExecutionProvider").batch_tokens == 512


def test_a_start_below_the_bars_is_refused(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"search: cosine_mean = 0\.\d+, must be >= 1; the bar is search\.cosine_mean$"):
        searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept", cosine_mean=1.0)
    assert not (tmp_path / "made").exists()


def test_products_stay_fp32_where_int8_would_miss_the_bars(
    artifacts: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster(monkeypatch, {})
    figures = module._Trials._figures

    def rough(self: Any, form: Form, running: Running | None = None) -> dict[str, float]:
        return figures(self, form) | ({"cosine_mean": 0.9} if form.kept == "none" else {})

    monkeypatch.setattr(module._Trials, "_figures", rough)
    result = searched(artifacts("wide") / "fp32", tmp_path / "made", tmp_path / "kept")
    starts = [row["verdict"] for row in result["trials"] if row["stage"] == "start"]
    assert starts == ["outside the gate: cosine_mean = 0.9, must be >= 0.98", "start"]
    assert result["choice"]["form"]["kept"] == "behind-gelu"
    assert run_operators(tmp_path / "made" / GRAPH)["MatMul"] == 2


def test_what_cannot_be_searched_is_one_line(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    home = artifacts("wide")
    with pytest.raises(ArtifactError, match=r"int8 already; forms are made from the fp32 graph$"):
        Search().run(home / "int8", OnnxInt8(), SAMPLE, HELDOUT, tmp_path / "kept", draft(tmp_path / "a"))
    with pytest.raises(TextError, match=r"^20 texts to choose by are too few to search on; 32 are needed"):
        Search().run(home / "fp32", OnnxInt8(), SAMPLE, HELDOUT[:20], tmp_path / "kept", draft(tmp_path / "b"))


def test_a_batch_that_changes_one_text_counts_by_that_text(
    artifacts: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    same, other = np.tile(np.float32([1, 0]), (8, 1)), np.tile(np.float32([1, 0]), (8, 1))
    other[3] = [0.6, 0.8]
    fp32 = artifacts() / "fp32"
    for padded, batched in ((same, other), (other, same)):
        monkeypatch.setattr("exporters.search.embedding.invariance", lambda *_, made=(same, padded, batched): made)
        figures = EmbeddingSubject(fp32, [], sentences(20), []).figures(fp32)
        assert figures["batch_cosine_min"] == pytest.approx(0.6)
        assert [figures["cosine_min"], figures["neighbours_at_10"]] == pytest.approx([1, 1], abs=1e-6)


def test_batches_keep_their_bounds() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    for most, equal in [(64, False), (64, True), (30, False), (None, True)]:
        batches = length_sorted_batches(lengths, 16, most, equal)
        assert sorted(np.concatenate(batches)) == list(range(500))
        for rows in batches:
            longest = int(lengths[rows].max())
            assert len(rows) == 1 or most is None or len(rows) * longest <= most
            assert len(rows) <= 16
            assert not equal or len(set(lengths[rows])) == 1
    assert length_sorted_batches(np.array([], np.int64), 16, 64, True) == []


def test_it_starts_from_what_int8_asks_for() -> None:
    assert module.first_form("int8", OnnxInt8(smooth="all")) == Form(smooth="all")
    assert module.first_form("int8", OnnxInt8(attention="products")) == Form(attention="products")
    assert module.first_form("fp32", OnnxInt8()).precision == "fp32"
