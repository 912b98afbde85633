"""Calibrated int8: a text's vector is its own, whatever batch it is in, and as near to fp32 as before."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import sentences
from graphs import draft, quantize, sqnr_db
from onnx import numpy_helper
from typer.testing import CliRunner

from compressor.artifact.layout import GRAPH
from compressor.cli.app import app
from compressor.core.errors import RecipeError, TextError
from exporters.graph.files import load, run_operators
from exporters.precision.calibrate import Batch, batches_of_texts, dynamic_inputs, measure_ranges
from exporters.precision.int8 import OnnxInt8
from exporters.session import OnnxEncoder
from exporters.verify.parity import invariance

TEXTS = sentences(64, seed=5)


@pytest.fixture(scope="module")
def folders(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return fp32, int8 with ranges a batch, and int8 with calibrated ones, of a wide enough model."""
    home, to = artifacts("wide"), tmp_path_factory.mktemp("quantized")
    batch = quantize(home / "fp32", draft(to / "batch"), ranges="batch")
    plain = quantize(home / "fp32", draft(to / "plain"), smooth="none")
    return {"fp32": home / "fp32", "batch": batch, "calibrated": home / "int8", "plain": plain}


def least_cosine(folder: Path) -> float:
    """Return the least cosine of a vector alone with the same text's, padded or in a batch."""
    encoder = OnnxEncoder(folder, threads=1)
    alone, padded, batched = invariance(encoder, TEXTS)
    return float(min((alone * other).sum(axis=1).min() for other in (padded, batched)))


def test_vectors_do_not_depend_on_their_batch(folders: dict[str, Path]) -> None:
    assert least_cosine(folders["calibrated"]) >= 0.999999
    assert least_cosine(folders["batch"]) < 0.99999  # which is what this is for


def test_vectors_stay_as_close_as_with_ranges_a_batch(folders: dict[str, Path]) -> None:
    exact, batch, own = (OnnxEncoder(folders[n], threads=1).encode(TEXTS) for n in ("fp32", "batch", "calibrated"))
    assert sqnr_db(exact, own) > sqnr_db(exact, batch) - 1
    assert (exact * own).sum(axis=1).min() > 0.998


def test_the_same_products_run_without_looking_for_ranges(folders: dict[str, Path]) -> None:
    found, batch = (run_operators(folders[name] / GRAPH) for name in ("calibrated", "batch"))
    assert found["QAttention"] == batch["QAttention"] == 2
    assert found["MatMulIntegerToFloat"] == batch["DynamicQuantizeMatMul"] == 6
    assert not any(name.startswith("Dynamic") for name in found)
    assert found["QuantizeLinear"] == 2 * 4  # one an activation: query, key and value share theirs
    assert found["Add"] == batch["Add"]  # the bias is in the product


def test_weights_are_the_same(folders: dict[str, Path]) -> None:
    stored = [
        {t.name: numpy_helper.to_array(t) for t in onnx.load(folders[name] / GRAPH).graph.initializer}
        for name in ("plain", "batch")
    ]
    assert stored[0].keys() >= stored[1].keys()
    assert all(np.array_equal(stored[0][name], values) for name, values in stored[1].items())


def test_ranges_are_those_of_the_sample_without_padding(artifacts: Callable[..., Path]) -> None:
    home = artifacts("wide")
    names = dynamic_inputs(OnnxInt8().quantize(load(home / "fp32" / GRAPH)))
    assert len(names) == len(set(names)) == 8

    def padded(extra: int) -> Iterator[Batch]:
        for batch in batches_of_texts(home / "fp32", sentences(40)):
            yield {name: np.pad(values, ((0, 0), (0, extra))) for name, values in batch.items()}

    bare, wide = (measure_ranges(load(home / "fp32" / GRAPH), names, padded(extra)) for extra in (0, 20))
    for name in names:
        assert bare[name] == pytest.approx(wide[name], abs=1e-5)
        assert bare[name][0] < 0 < bare[name][1]
    less = measure_ranges(load(home / "fp32" / GRAPH), names, batches_of_texts(home / "fp32", sentences(2)))
    assert all(bare[name][0] <= less[name][0] and less[name][1] <= bare[name][1] for name in names)
    with pytest.raises(TextError, match=r"^int8\.ranges = 'calibrated': no texts to calibrate on$"):
        measure_ranges(load(home / "fp32" / GRAPH), names, [])


@pytest.mark.parametrize("options", [{}, {"reduce_range": True}, {"embeddings": 32}])
def test_calibrating_repeats_byte_for_byte(
    artifacts: Callable[..., Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    made = [quantize(artifacts() / "fp32", draft(tmp_path / name), **options) / GRAPH for name in ("one", "other")]
    assert made[0].read_bytes() == made[1].read_bytes()
    onnx.checker.check_model(onnx.load(made[0]))


def test_other_families_are_calibrated_too(artifacts: Callable[..., Path]) -> None:
    for family in ("roberta", "distilbert"):
        fp32, to = artifacts(family) / "fp32", artifacts(family) / "int8"
        assert least_cosine(to) >= 0.999999
        exact, own = (OnnxEncoder(folder, threads=1).encode(TEXTS) for folder in (fp32, to))
        assert (exact * own).sum(axis=1).min() > 0.99
        kinds = Counter(node.op_type for node in onnx.load(to / GRAPH).graph.node)
        assert not {"DynamicQuantizeLinear", "MatMulInteger"} & kinds.keys()


def test_without_texts_it_is_refused(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^int8\.ranges = 'calibrated': needs texts to calibrate on"):
        OnnxInt8().run(artifacts() / "fp32", draft(tmp_path / "int8"))


def test_the_command_calibrates_on_texts(artifacts: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences(300)), "utf-8")
    line = f"quantize {artifacts() / 'fp32'} --out {tmp_path / 'int8'} --texts {tmp_path / 'texts.txt'}"
    done = CliRunner().invoke(app, line.split(), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert run_operators(tmp_path / "int8" / GRAPH)["MatMulIntegerToFloat"] > 0
