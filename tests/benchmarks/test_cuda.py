"""The benchmark on a card without one: what is planned, how turns become figures, what results hold."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builders import sentences
from cards import MACHINE, STATED, row, system
from tokenizers import Tokenizer

from benchmarks.cuda.__main__ import main
from benchmarks.cuda.checks import graph_checks, parity
from benchmarks.cuda.measure import items_of, measure
from benchmarks.cuda.place import ON_CARD, REHEARSAL
from benchmarks.cuda.placement import Node, Placement, placement
from benchmarks.cuda.plan import MODES, Budget, Cell, Plan
from benchmarks.cuda.prepare import Prepare
from benchmarks.cuda.results import Missed, Results, Row, Timed
from benchmarks.cuda.systems import AGAIN, BASELINE, System, measured, systems_of
from benchmarks.speed.figures import Ratio
from compressor.core.errors import ArtifactError, ProviderError, RecipeError, TextError
from compressor.models.source import find
from exporters.runtime import providers
from exporters.runtime.providers import CPU, CUDA

HEAD = {"name": "cuda", "material": "ab", "rehearsal": True}


def test_rows_come_by_their_weight() -> None:
    cells = Plan().cells(512)
    assert len(cells) == len(set(cells)) == 4 * 3 * 2 + 2 * 3
    assert [cell.key for cell in cells[:6]] == [
        "ids 1 x 128", "text 1 x 128", "ids 256 x 128", "text 256 x 128", "ids 1 x 16", "text 1 x 16",
    ]  # fmt: skip
    assert [cell.key for cell in cells[22:26]] == [
        "ids 32 x 256",
        "text 32 x 256",
        "recorded 1 x 128",
        "recorded 1 x 16",
    ]
    assert {cell.batch for cell in cells[24:]} == {1, 32}
    assert {cell.tokens for cell in Plan().cells(128)} == {128, 16}


def test_a_pass_of_texts_has_some_batches_and_one_of_ids_has_one() -> None:
    counts = {batch: [Cell(mode, batch, 16).texts for mode in MODES] for batch in (1, 32, 256, 1024, 4096)}
    assert counts == {1: [1, 1], 32: [32, 128], 256: [256, 1024], 1024: [1024, 2048], 4096: [4096, 4096]}
    assert [cell.key for cell in Plan().cells(512) if cell.is_large and cell.mode == "ids"] == [
        "ids 1024 x 128", "ids 1024 x 256",
    ]  # fmt: skip


def test_a_budget_leaves_room_for_the_longest_row() -> None:
    budget = Budget(100.0, begun=1000.0, longest=20.0)
    assert budget.allows(1080.0)
    assert not budget.allows(1081.0)
    assert Budget(None, begun=0.0, longest=1e9).allows(1e9)


def test_systems_by_depth() -> None:
    names = [one.name for one in systems_of(STATED)]
    assert names[0] == BASELINE
    assert names[-1] == AGAIN
    assert len(set(names)) == len(names)
    assert {f"onnx-{layers}-{form}" for layers in (6, 3) for form in ("fp32", "fp16", "fp16-fused", "recorded")} <= set(
        names
    )
    assert {one.torch for one in systems_of(STATED)} - {None} == {"fp16", "fp16-compiled", "fp16-plain", "bf16", "fp32"}


def test_what_failed_is_replaced_and_not_recorded() -> None:
    systems = systems_of(STATED)
    usual, without = ({one.name for one in measured(systems, failed)} for failed in ([], ["onnx-3-fp16-fused"]))
    assert "onnx-6-fp16" in usual
    assert "onnx-3-fp16" not in usual
    assert without == usual - {"onnx-3-fp16-fused", "onnx-3-recorded"} | {"onnx-3-fp16"}


def test_systems_at_a_cell() -> None:
    plan = Plan()
    together = [one.name for one in systems_of(STATED) if one.at(Cell("recorded", 1, 16), plan)]
    assert together == [
        BASELINE, "torch-fp16-recorded", "onnx-6-fp16-fused", "onnx-6-recorded", "onnx-3-fp16-fused", "onnx-3-recorded",
    ]  # fmt: skip
    assert not system("onnx-3-recorded").at(Cell("ids", 1, 128), plan)
    assert system("onnx-3-fp32").at(Cell("ids", 1, 128), plan)
    assert not system("onnx-3-fp32").at(Cell("ids", 1, 16), plan)
    assert system("onnx-6-fp32").at(Cell("ids", 1, 16), plan)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], None]]:
    """Return what makes passes of so many seconds, by a clock that nothing else moves."""
    now = [0.0]
    monkeypatch.setattr("benchmarks.cuda.measure.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def lasting(*seconds: float) -> Callable[[], None]:
        each = itertools.cycle(seconds)

        def one_pass() -> None:
            now[0] += next(each)

        return one_pass

    return lasting


def test_ratios_are_taken_round_by_round(clock: Callable[..., Callable[[], None]]) -> None:
    # Turns of one pass each: two passes warm up, and a pass as long as a turn needs none before it is timed.
    passes = {"base": clock(4.0, 4.0, 4.0, 5.0, 8.0), "other": clock(2.0, 2.0, 1.0, 2.5, 2.0)}
    base, other = measure(passes, Cell("ids", 10, 16), Plan(rounds=3, seconds=0.5), "base")
    rates = [10 / 5, 10 / 8, 10 / 4]
    assert base == Timed("base", 2.0, 5000.0, rates, Ratio(1.0, 1.0, 1.0))
    assert isinstance(other, Timed)
    assert other.rounds == [10 / 2.5, 10 / 2, 10 / 2]
    assert other.ratio == Ratio(2.0, 2.0, 4.0)


def test_a_turn_is_passes_for_so_long(clock: Callable[..., Callable[[], None]]) -> None:
    [found] = measure({"one": clock(0.25)}, Cell("text", 1, 16), Plan(rounds=2, seconds=1.0), "one")
    assert found == Timed("one", 4.0, 250.0, [4.0, 4.0], Ratio(1.0, 1.0, 1.0))


def test_a_system_that_fails_says_why_and_the_others_go_on(clock: Callable[..., Callable[[], None]]) -> None:
    count = 0

    def breaks() -> None:
        nonlocal count
        count += 1
        if count > 2:
            raise RuntimeError("CUDA out of memory.\nTried to allocate")

    passes = {"broken": breaks, "whole": clock(1.0)}
    broken, whole = measure(passes, Cell("ids", 1, 16), Plan(rounds=3, seconds=1.0), "broken")
    assert broken == Missed("broken", "CUDA out of memory. Tried to allocate")
    assert whole == Timed("whole", 1.0, 1000.0, [1.0] * 3, None)
    assert "ratio" not in whole.as_dict()


def test_items_have_their_length_again_and_again(tiny: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    items = items_of(Cell("text", 256, 24), tokenizer, sentences(40))
    assert items.ids.shape == items.mask.shape == (256, 24)
    assert items.ids.dtype == np.int64
    assert len(items.texts) == 1024
    assert {len(encoding.ids) for encoding in tokenizer.encode_batch_fast(items.texts)} == {24}
    with pytest.raises(TextError, match="none of 24 tokens can be cut"):
        items_of(Cell("text", 1, 24), tokenizer, [""])


def test_a_row_is_written_as_its_readers_know_it() -> None:
    timed = Timed("onnx", 4.0, 250.0, [3.0, 4.0, 5.0], Ratio(2.0, 1.5, 2.5))
    made = Row(Cell("text", 2, 16), 8, 3, [timed, Missed("torch", "broken")], MACHINE, 1.5)
    assert json.dumps(made.as_dict()) == json.dumps(
        {
            "key": "text 2 x 16", "mode": "text", "batch": 2, "tokens": 16, "texts": 8, "rounds": 3,
            "systems": [
                {"name": "onnx", "texts_per_second": 4.0, "pass_ms_p50": 250.0, "rounds": [3.0, 4.0, 5.0],
                 "ratio": 2.0, "ratio_min": 1.5, "ratio_max": 2.5},
                {"name": "torch", "reason": "broken"},
            ],
            "machine": MACHINE, "seconds": 1.5,
        }
    )  # fmt: skip
    assert Row.read(json.loads(json.dumps(made.as_dict()))) == made
    assert list(made.timed) == ["onnx"]


def test_results_go_on_where_they_were(tmp_path: Path) -> None:
    cells = Plan().cells(512)
    results = Results(tmp_path / "results.json", HEAD)
    assert results.missing(cells, MACHINE) == cells
    for cell in (cells[2], cells[0]):
        results.add(row(cell), cells)
    written = json.loads((tmp_path / "results.json").read_text())
    assert [one["key"] for one in written["rows"]] == [cells[0].key, cells[2].key]
    assert written["rehearsal"] is True

    again = Results(tmp_path / "results.json", HEAD)
    assert again.missing(cells, MACHINE) == [cells[1], *cells[3:]]
    assert again.missing(cells, {"card": "another"}) == cells
    again.add(row(cells[0], 2.0, {"card": "another"}), cells)
    assert [one.timed[BASELINE].rate for one in again.rows] == [2.0, 1.0]


def test_results_of_another_run_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path, HEAD).write()
    for name, value in (("material", "cd"), ("rehearsal", False)):
        with pytest.raises(RecipeError, match=rf"results\.json: its {name} is another than this run's; give a file"):
            Results(path, HEAD | {name: value})
    for text in ("[]", json.dumps(HEAD | {"rows": [{"key": "ids 1 x 16"}]})):
        path.write_text(text)
        with pytest.raises(ArtifactError, match=r"results\.json: not results of such a run"):
            Results(path, HEAD)


def test_a_graph_on_the_cpu_is_not_taken_for_one_on_a_card(artifacts: Callable[..., Path]) -> None:
    ones = np.ones((16, 16), np.int64)
    feeds = {"input_ids": ones, "attention_mask": ones, "token_type_ids": np.zeros_like(ones)}
    found = placement(artifacts() / "fp32", CPU, feeds)
    assert found.operators()["Attention"] == found.operators()["BiasGelu"] == 4
    assert found.elsewhere(CPU) == {}
    one = System("one", "one", 4, onnx="fp32")
    assert [check.passed for check in graph_checks(one, found, CPU)] == [True] * 4
    assert [check.passed for check in graph_checks(one, found, CUDA)] == [True, True, False, True]
    assert {"Attention", "Gather", "MatMul"} <= set(found.astray(CUDA))
    deeper = System("deeper", "deeper", 6, onnx="fp32")
    assert [check.passed for check in graph_checks(deeper, found, CPU)] == [False, False, True, True]


def test_what_computes_shapes_may_be_elsewhere_and_what_copies_may_not() -> None:
    on_card = Node("MatMul", CUDA, 4096)
    shapes = [Node("Gather", CPU, 1), Node("Concat", CPU, 4)]
    assert Placement((on_card, *shapes)).astray(CUDA) == []
    assert Placement((on_card, *shapes)).elsewhere(CUDA) == {"Concat": 1, "Gather": 1}
    copied = Node("MemcpyToHost", CUDA, 4096)
    assert Placement((on_card, copied, Node("Slice", CPU, 256))).astray(CUDA) == ["MemcpyToHost", "Slice"]


def test_bars_are_of_graphs_and_pytorchs_own_vectors_are_stated() -> None:
    exact = np.eye(3, dtype=np.float32)
    near = exact + np.float32(2e-4)
    assert not parity(system("onnx-6-fp32"), near, exact).passed
    assert parity(system("onnx-6-fp32"), exact + np.float32(5e-5), exact).passed
    assert parity(system("onnx-6-fp16"), near, exact).passed
    assert not parity(system("onnx-6-fp16"), exact + np.float32(2e-2), exact).passed
    for name in ("torch-fp32", "torch-bf16"):
        stated = parity(system(name), exact + np.float32(1e-2), exact)
        assert stated.passed
        assert stated.bar is None
        assert stated.value > 0


@pytest.mark.parametrize("gpu_build", [False, True])
def test_without_a_card_nothing_runs(
    gpu_build: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if gpu_build:
        monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["run", str(tmp_path), "--out", str(tmp_path / "results.json")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        "error: CUDAExecutionProvider: PyTorch sees no CUDA device; install a CUDA build of torch and a driver"
        if gpu_build
        else "error: CUDAExecutionProvider: not in this ONNX Runtime (has "
    )
    assert said.count("\n") == 1
    assert not (tmp_path / "results.json").exists()
    with pytest.raises(ProviderError):
        ON_CARD.require()
    REHEARSAL.require()


def test_a_rehearsal_has_no_file_of_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path), "--rehearsal", "--out", "docs/figures/cuda.json"]) == 1
    assert capsys.readouterr().err == (
        f"error: --out docs/figures/cuda.json: a rehearsal leaves no figures; its results stay in {tmp_path}\n"
    )


def test_more_layers_than_the_teacher_has_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^layers = \[5\]: 5 are more than the teacher's 4$"):
        Prepare(layers=(5,)).make(find(str(tiny)), sentences(60), "sentences", tmp_path / "made")
