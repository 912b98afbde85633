"""The page of a card's figures: there with them, not without, and never of a rehearsal."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cuda.material import Stated, Student
from benchmarks.cuda.plan import Plan
from benchmarks.cuda.systems import AGAIN, BASELINE, systems_of
from benchmarks.pages import cuda, figures
from benchmarks.report.markdown import escaped, source
from compressor.core.errors import ArtifactError
from compressor.core.strict_json import json_text

ROOT = Path(__file__).parents[2]
COMMAND = "python -m benchmarks.cuda run runs/cuda"
STATED = Stated("all-MiniLM-L6-v2", "ab", 6, (Student(6, "the teacher itself"), Student(3, "copied")), (), "texts")
SPEED = {"torch-fp32": 0.5, BASELINE: 1.0, "torch-fp16-compiled": 1.25, "onnx-6-fp16": 1.6, "onnx-6-fp16-fused": 2.0,
         "onnx-3-fp16-fused": 5.0, AGAIN: 1.01}  # fmt: skip


def figures_of(name: str, batch: int, tokens: int) -> dict[str, Any]:
    if name == "torch-bf16":
        return {"name": name, "reason": "out of <memory>"}
    ratio = SPEED.get(name, 0.9)
    rate = ratio * 1000 * batch**0.5 * 128 / tokens
    return {
        "name": name, "texts_per_second": rate, "pass_ms_p50": 1000 * batch / rate, "rounds": [rate] * 3,
        "ratio": ratio, "ratio_min": ratio - 0.05, "ratio_max": ratio + 0.05,
    }  # fmt: skip


@pytest.fixture
def run() -> dict[str, Any]:
    """Return results as a run writes them, one row left for want of time."""
    plan, systems = Plan(batches=(1, 1024), lengths=(128, 16)), systems_of(STATED)
    cells = plan.cells(256)
    machine = {"card": "NVIDIA H100", "driver": "580.1", "cuda": "13.0", "torch": "2.11.0", "onnxruntime": "1.31.1"}
    rows = [
        {
            "key": cell.key, "mode": cell.mode, "batch": cell.batch, "tokens": cell.tokens, "machine": machine,
            "systems": [figures_of(one.name, cell.batch, cell.tokens) for one in systems if one.at(cell, plan)],
        }
        for cell in cells[:-1]
    ]  # fmt: skip
    check = {"artifact": "onnx-6-fp32", "check": "parity", "figure": "largest difference", "value": 3e-6, "bar": 1e-4,
             "direction": "<=", "passed": True}  # fmt: skip
    return {
        "name": "cuda", "command": COMMAND, "created": "2026-11-27T12:00:00+00:00", "rehearsal": False,
        "environment": {"cpu": "Xeon", "cores": 16, "versions": {"torch": "2.11.0", "onnxruntime": "1.31.1"}},
        "teacher": {"name": "all-MiniLM-L6-v2", "layers": 6}, "students": {"6": "the teacher itself", "3": "copied"},
        "systems": [{"name": one.name, "label": one.label, "layers": one.layers} for one in systems],
        "checks": [check, check | {"value": 2e-4, "passed": False}], "failed": {"torch-fp32": "broken"},
        "planned": [cell.key for cell in cells], "rows": rows,
    }  # fmt: skip


def page(run: dict[str, Any]) -> str:
    return cuda.pages({cuda.NAME: run}, source)[cuda.PAGE]


def test_the_page_has_the_card_and_every_figure(run: dict[str, Any]) -> None:
    text = page(run)
    assert "**NVIDIA H100**, driver 580.1; PyTorch 2.11.0 for CUDA 13.0, ONNX Runtime 1.31.1." in text
    assert (
        "Xeon, 16 cores; torch 2.11.0, onnxruntime 1.31.1; 2026-11-27; `python -m benchmarks.cuda run runs/cuda`"
        in text
    )
    for row in run["rows"]:
        for one in row["systems"]:
            if "reason" not in one:
                assert f"| {one['texts_per_second']:,.0f}, {one['ratio']:.2f}× [" in text
    assert "| yes |" in text
    assert "| **no** |" in text
    assert f"- PyTorch bf16: at ids 1 x 128: {escaped('out of <memory>')}" in text
    assert "<memory>" not in text
    assert "- PyTorch fp32: broken" in text
    assert f"Not measured for want of time: {run['planned'][-1]}." in text
    assert "PyTorch fp16 against itself, in turns like\nthe others: 1.01 to 1.01." in text


def test_ratios_at_the_best_batch_size(run: dict[str, Any]) -> None:
    [line] = [line for line in page(run).splitlines() if line.startswith("| texts in, 128 tokens | 32,000")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        "texts in, 128 tokens",
        "32,000 at 1,024",
        "40,000 at 1,024, PyTorch fp16, torch.compile",
        "64,000 at 1,024: 2.00× PyTorch fp16, 1.60× the fastest",
        "160,000 at 1,024: 5.00× PyTorch fp16, 4.00× the fastest",
    ]


def test_latency_of_one_text(run: dict[str, Any]) -> None:
    [line] = [line for line in page(run).splitlines() if line.startswith("| texts in, 128 tokens | 0.8")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:] == ["0.800 ms, PyTorch fp16, torch.compile", "0.500 ms, 1.60×", "0.200 ms, 4.00×"]


def test_what_is_no_figure_is_refused(run: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"^docs/figures/cuda\.json: a rehearsal on a CPU; no figures of a card$"):
        page(run | {"rehearsal": True})
    run["rows"][0]["machine"] = {"card": "NVIDIA H200"}
    with pytest.raises(ArtifactError, match=r"^docs/figures/cuda\.json: rows of 2 machines; measure all on one$"):
        page(run)


def test_the_page_is_there_with_its_figures_alone(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "README.md", tmp_path)
    monkeypatch.chdir(tmp_path)
    made, committed = figures.FIGURES / "cuda.json", cuda.PAGE
    made.unlink(missing_ok=True)
    assert figures.main([]) == 0
    assert not committed.exists()
    committed.write_text("figures of nothing")
    assert figures.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/cuda.md: stale; run python -m benchmarks.pages.figures\n"
    assert figures.main([]) == 0
    assert not committed.exists()
    made.write_text(json_text(run))
    assert figures.main(["--check"]) == 1
    assert figures.main([]) == 0
    assert committed.read_text("utf-8") == page(run)
    assert figures.main(["--check"]) == 0
