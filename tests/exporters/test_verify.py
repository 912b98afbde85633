"""The gate passes what is sound, and each of its checks stops what it is there for."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import sentences
from graphs import draft, quantize
from onnx import numpy_helper

from compressor.artifact.layout import GRAPH
from compressor.core.errors import GateError, ModelError, RecipeError
from compressor.models.agreement import Heldout
from compressor.models.sentence_model import open_model
from exporters.graph.optimise import Optimise
from exporters.session import OnnxEncoder
from exporters.verify.check import Check, gate
from exporters.verify.embedding import Verify
from exporters.verify.parity import invariance, largest_difference, parity
from exporters.verify.reader import ReaderVerify

TEXTS = [*sentences(60), "the cat sleeps " * 40]
LENIENT = Verify(int8_cosine_mean=0.9)
"""Bars that a random tiny model's int8 form clears."""


@pytest.fixture(scope="module")
def heldout(tiny: Path) -> Heldout:
    """Return held-out texts with the vectors of the tiny model, teacher and student in one."""
    return Heldout(TEXTS, open_model(tiny).encode(TEXTS))


@pytest.fixture
def home(artifacts: Callable[..., Path]) -> Path:
    return artifacts()


def missed(checks: list[Check]) -> set[tuple[str, str]]:
    return {(check.check, check.figure) for check in checks if not check.passed}


def value(checks: list[Check], check: str, figure: str) -> float:
    (found,) = (c.value for c in checks if (c.check, c.figure) == (check, figure))
    return found


def copy_with_graph(source: Path, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    """Return a copy of an artifact with its graph changed."""
    shutil.copytree(source, folder)
    model = onnx.load(folder / GRAPH)
    change(model)
    onnx.save(model, folder / GRAPH)
    return folder


def test_a_sound_fp32_artifact_passes(home: Path, tiny: Path, heldout: Heldout) -> None:
    checks = Verify().examine("fp32", home / "fp32", tiny, heldout)
    assert missed(checks) == set()
    gate(checks)
    assert value(checks, "parity with PyTorch", "max_difference") < 1e-6
    assert value(checks, "parity with PyTorch", "max_difference_of_texts") < 1e-6
    assert value(checks, "agreement with the teacher", "cosine_min") == pytest.approx(1, abs=1e-5)
    assert value(checks, "agreement with the teacher", "neighbours_at_10") > 0.99
    assert value(checks, "padding invariance", "cosine_min") == pytest.approx(1, abs=1e-6)
    assert value(checks, "batch invariance", "cosine_min") == pytest.approx(1, abs=1e-6)
    assert value(checks, "fusions as run", "attention") == 4
    assert value(checks, "fusions as run", "gelu") == 4


def test_a_sound_int8_artifact_passes(home: Path, tiny: Path, heldout: Heldout) -> None:
    checks = LENIENT.examine("int8", home / "int8", tiny, heldout)
    assert missed(checks) == set()
    assert value(checks, "operators as run", "integer_products") == 16
    assert 0.99 < value(checks, "parity with PyTorch", "cosine_mean") < 1 - 1e-6
    assert value(checks, "batch invariance", "cosine_min") == pytest.approx(1, abs=1e-6)
    assert value(checks, "padding invariance", "cosine_min") == pytest.approx(1, abs=1e-6)


def test_ranges_a_batch_move_a_vector_with_its_neighbours(
    home: Path, tiny: Path, heldout: Heldout, tmp_path: Path
) -> None:
    batch = quantize(home / "fp32", draft(tmp_path / "int8"), ranges="batch")
    for bars, missing in (({}, False), ({"padding_cosine_min": 0.99999, "batch_cosine_min": 0.99999}, True)):
        checks = LENIENT.model_copy(update=bars).examine("int8", batch, tiny, heldout)
        assert 0.98 < value(checks, "padding invariance", "cosine_min") < 1 - 1e-6
        assert 0.97 < value(checks, "batch invariance", "cosine_min") < 1 - 1e-6
        assert bool({check for check, _ in missed(checks)} & {"padding invariance", "batch invariance"}) is missing


def test_both_artifacts_are_written_down(home: Path, tiny: Path, heldout: Heldout, tmp_path: Path) -> None:
    made = draft(tmp_path / "checks")
    LENIENT.run(home / "fp32", home / "int8", tiny, heldout, made)
    checks = json.loads((made.folder / "checks.json").read_text())
    assert [sum(c["artifact"] == name for c in checks) for name in ("fp32", "int8")] == [14, 15]
    assert all(c["passed"] for c in checks)
    gate([Check.read(c) for c in checks])
    assert [Check.read(c).as_dict() for c in checks] == checks


def test_the_gate_names_figure_and_bar() -> None:
    low = Check("int8", "agreement with the teacher", "cosine_mean", 0.84219, 0.85)
    high = Check("fp32", "parity with PyTorch", "max_difference", 0.00123, 1e-5, "<=")
    with pytest.raises(GateError) as caught:
        gate([Check("fp32", "a", "b", 1.0), low, high])
    assert (
        str(caught.value)
        == "verify int8: agreement with the teacher: cosine_mean = 0.84219, must be >= 0.85; the bar is fixed"
    )
    with pytest.raises(GateError) as caught:
        gate([high])
    assert (
        str(caught.value)
        == "verify fp32: parity with PyTorch: max_difference = 0.00123, must be <= 1e-05; the bar is fixed"
    )


def test_a_bar_is_met_at_its_value_and_never_by_nan() -> None:
    for direction, worse in ((">=", 0.4), ("<=", 0.6)):
        check = Check("fp32", "a", "b", 0.5, 0.5, direction)  # type: ignore[arg-type]
        assert check.passed
        assert not replace(check, value=worse).passed
        assert not replace(check, value=math.nan).passed
    with pytest.raises(GateError, match=r"^verify fp32: a: b = nan, must be >= 0\.5; the bar is fixed$"):
        gate([Check("fp32", "a", "b", math.nan, 0.5)])


@pytest.mark.parametrize(
    ("bar", "direction", "off"),
    [(None, ">=", False), (0.4, ">=", False), (0.0, ">=", True), (-1.0, ">=", True), (1e-5, "<=", False),
     (1.0, "<=", True)],
)  # fmt: skip
def test_a_bar_that_no_model_misses_is_off(bar: float | None, direction: Any, off: bool) -> None:
    check = Check("fp32", "agreement with the teacher", "cosine_min", 0.7, bar, direction)
    assert check.as_dict()["off"] is check.off is off
    assert replace(check, value=math.nan).passed is (bar is None)  # still judged


def test_a_cosine_may_be_negative_and_a_share_may_not() -> None:
    assert Verify(teacher_cosine_min=-1.0, batch_cosine_min=-0.5).teacher_cosine_min == -1.0
    assert ReaderVerify(teacher_f1=0.0).teacher_f1 == 0.0
    for schema, name in ((Verify, "neighbours_at_10"), (ReaderVerify, "teacher_f1"), (ReaderVerify, "alone")):
        with pytest.raises(RecipeError, match=rf"^options: {name} = -0\.1: input should be greater than or equal to 0"):
            schema.read({name: -0.1})
    with pytest.raises(RecipeError, match=r"^options: teacher_cosine_min = -1\.1: input should be greater than or"):
        Verify.read({"teacher_cosine_min": -1.1})


@pytest.mark.parametrize("size", [1e-3, math.nan])
def test_perturbed_weights_miss_parity(size: float, home: Path, tiny: Path, heldout: Heldout, tmp_path: Path) -> None:
    def perturb(model: onnx.ModelProto) -> None:
        (table,) = (t for t in model.graph.initializer if t.name.endswith("word_embeddings.weight"))
        table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) * np.float32(1 + size), table.name))

    folder = copy_with_graph(home / "fp32", tmp_path / "off", perturb)
    checks = Verify().examine("fp32", folder, tiny, heldout)
    assert ("parity with PyTorch", "max_difference") in missed(checks)
    assert ("parity with PyTorch", "max_difference_of_texts") in missed(checks)
    with pytest.raises(
        GateError,
        match=r"^verify fp32: parity with PyTorch: max_difference = .*, must be <= 1e-05; the bar is verify\.parity$",
    ):
        gate(checks)
    if math.isnan(size):
        made = draft(tmp_path / "checks")
        with pytest.raises(GateError, match=r"^verify fp32: parity with PyTorch: max_difference = nan, must be"):
            Verify().run(folder, folder, tiny, heldout, made)
        assert list(made.folder.iterdir()) == []


@pytest.mark.parametrize(("place", "name"), [(1, "padding invariance"), (2, "batch invariance")])
def test_invariance_is_of_the_text_that_changes_most(
    place: int, name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One text of 64 that turns away is no 64th of a fault."""
    vectors = [np.tile(np.float32([1, 0]), (64, 1)) for _ in range(3)]
    vectors[place][17] = [0.6, 0.8]
    monkeypatch.setattr("exporters.verify.parity.invariance", lambda encoder, texts: tuple(vectors))
    checks = Verify()._invariance("fp32", OnnxEncoder(home / "fp32", threads=1), TEXTS)
    values = {check.check: check.value for check in checks}
    assert values.pop(name) == pytest.approx(0.6)
    assert list(values.values()) == [pytest.approx(1)]
    assert missed(checks) == {(name, "cosine_min")}


def test_a_difference_is_the_largest_either_way_and_no_number_is_one() -> None:
    expected = np.zeros((2, 3), np.float32)
    for place, value in (((0, 1), 0.5), ((1, 2), -0.5)):
        got = expected.copy()
        got[place] = value
        assert largest_difference(expected, got) == 0.5
    assert math.isnan(largest_difference(expected, np.where(np.eye(2, 3, dtype=bool), np.float32(math.nan), 0)))


def test_parity_is_of_the_batch_that_differs_most(home: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    differences = iter([1e-7, 0.5, *[1e-7] * 20])
    monkeypatch.setattr("exporters.verify.parity.largest_difference", lambda expected, got: next(differences))
    assert parity(OnnxEncoder(home / "fp32", threads=1), open_model(tiny)) == 0.5


def test_another_tokenizer_misses_parity_of_texts(home: Path, tiny: Path, heldout: Heldout, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(home / "fp32", tmp_path / "off"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    shouted = Heldout([text.upper() for text in TEXTS], heldout.teacher)
    own = Heldout(shouted.texts, open_model(tiny).encode(shouted.texts))
    assert missed(Verify().examine("fp32", home / "fp32", tiny, own)) == set()
    assert ("parity with PyTorch", "max_difference_of_texts") in missed(Verify().examine("fp32", folder, tiny, own))


def test_another_model_misses_the_teacher(
    make_model: Callable[..., Path], artifacts: Callable[..., Path], heldout: Heldout
) -> None:
    checks = Verify().examine("fp32", artifacts(seed=1) / "fp32", make_model(seed=1), heldout)
    assert missed(checks) == {
        ("agreement with the teacher", f) for f in ("cosine_mean", "cosine_p1", "cosine_min", "neighbours_at_10")
    }


def test_attention_left_apart_misses_the_fusions(home: Path, tiny: Path, heldout: Heldout, tmp_path: Path) -> None:
    Optimise(attention=False).run(home / "plain", draft(tmp_path / "apart"))
    assert missed(Verify().examine("fp32", tmp_path / "apart", tiny, heldout)) == {("fusions as run", "attention")}
    checks = Verify(fused=False).examine("fp32", tmp_path / "apart", tiny, heldout)
    assert missed(checks) == set()
    assert not any(check.check == "fusions as run" for check in checks)


def test_a_model_without_gelu_has_none_to_fuse(artifacts: Callable[..., Path]) -> None:
    home = artifacts("relu")
    heldout = Heldout(TEXTS, open_model(home / "model").encode(TEXTS))
    checks = Verify().examine("fp32", home / "fp32", home / "model", heldout)
    assert missed(checks) == set()
    assert value(checks, "fusions as run", "attention") == 2
    assert value(checks, "fusions as run", "gelu") == 0


def test_a_float_graph_is_no_int8_artifact(home: Path, tiny: Path, heldout: Heldout) -> None:
    checks = Verify().examine("int8", home / "fp32", tiny, heldout)
    assert missed(checks) == {("operators as run", "integer_products")}
    message = r"^verify int8: operators as run: integer_products = 0, must be >= 16; the bar is fixed$"
    with pytest.raises(GateError, match=message):
        gate(checks)


def test_int8_is_no_fp32_artifact(home: Path, tiny: Path, heldout: Heldout) -> None:
    found = missed(Verify().examine("fp32", home / "int8", tiny, heldout))
    assert {check for check, _ in found} == {"parity with PyTorch"}


def test_an_artifact_of_another_model_is_refused(home: Path, make_model: Callable[..., Path], heldout: Heldout) -> None:
    other = make_model(dense=16)
    with pytest.raises(ModelError) as caught:
        Verify().examine("fp32", home / "fp32", other, heldout)
    assert str(caught.value) == f"{other}: vectors of length 16, those of {home / 'fp32'} have 32; not its student"


class WithoutMask(OnnxEncoder):
    """Computes padding as if it were text."""

    def run_ids(self, input_ids: Any, attention_mask: Any) -> Any:
        return super().run_ids(input_ids, np.ones_like(attention_mask))


class OneShort(OnnxEncoder):
    """Loses the last token of a full row."""

    def run_ids(self, input_ids: Any, attention_mask: Any) -> Any:
        return super().run_ids(
            input_ids, np.pad(attention_mask[:, 1:], ((0, 0), (0, 1))) | (np.arange(attention_mask.shape[1]) == 0)
        )


def test_parity_notices_a_mask_left_out_or_off_by_one(home: Path, tiny: Path) -> None:
    model = open_model(tiny)
    assert parity(OnnxEncoder(home / "fp32"), model) < 1e-6
    assert parity(WithoutMask(home / "fp32"), model) > 1e-2
    assert parity(OneShort(home / "fp32"), model) > 1e-2


def test_invariance_notices_a_mask_left_out(home: Path) -> None:
    alone, padded, batched = invariance(WithoutMask(home / "fp32"), TEXTS[:20])
    assert (alone * padded).sum(axis=1).min() < 0.99
    assert (alone * batched).sum(axis=1).min() < 0.99


def test_invariance_leaves_room_for_the_longest_text(home: Path) -> None:
    # A text of as many tokens as the model has positions cannot be padded further.
    alone, padded, batched = invariance(OnnxEncoder(home / "fp32"), ["the cat sleeps " * 40, "cat"])
    assert np.abs(alone - padded).max() < 1e-6
    assert np.abs(alone - batched).max() < 1e-6
