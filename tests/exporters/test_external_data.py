"""Graphs of more weights than one file holds: beside them on the way and handed out, with the same vectors."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import sentences
from graphs import draft

from compressor.artifact.folder import writing
from compressor.artifact.layout import DATA, GRAPH
from compressor.cli.common import graph_of
from compressor.core.errors import ArtifactError
from compressor.untrusted.inspection import inspect
from exporters import contracts
from exporters.graph import files
from exporters.graph.export import Export
from exporters.graph.files import load, opened, require_one_file, run_operators, weights_bytes, write
from exporters.graph.optimise import Optimise
from exporters.precision import int8
from exporters.precision.calibrate import batches_of_texts
from exporters.precision.fp16 import Half
from exporters.precision.int8 import OnnxInt8
from exporters.session import OnnxEncoder

TEXTS = [*sentences(20), "the cat sees " * 30]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Set how many bytes of weights a graph's file holds."""

    def bound(count: int) -> None:
        monkeypatch.setattr(files, "ONE_FILE_BYTES", count)
        monkeypatch.setattr(int8, "ONE_FILE_BYTES", count)

    return bound


@pytest.fixture
def fp32(tiny: Path, tmp_path: Path, few: Callable[[int], None]) -> Path:
    """Return an fp32 graph whose weights lie beside it."""
    few(5_000)
    Export().run(tiny, draft(tmp_path / "plain"))
    Optimise().run(tmp_path / "plain", draft(tmp_path / "fp32"))
    return tmp_path / "fp32"


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "onnx").iterdir()}


def test_the_vectors_are_those_of_one_file(tiny: Path, fp32: Path, tmp_path: Path, few: Callable[[int], None]) -> None:
    assert names(tmp_path / "plain") == names(fp32) == {"model.onnx", "model.onnx_data"}
    assert (fp32 / DATA).stat().st_size > 4 * (fp32 / GRAPH).stat().st_size / 10
    few(1 << 30)
    Export().run(tiny, draft(tmp_path / "one"))
    Optimise().run(tmp_path / "one", draft(tmp_path / "whole"))
    assert names(tmp_path / "whole") == {"model.onnx"}
    whole = OnnxEncoder(tmp_path / "whole", threads=1)
    assert np.array_equal(OnnxEncoder(fp32, threads=1).encode(TEXTS), whole.encode(TEXTS))
    assert run_operators(fp32 / GRAPH) == run_operators(tmp_path / "whole" / GRAPH)


@pytest.mark.parametrize("ranges", ["batch", "calibrated"])
@pytest.mark.parametrize("bound", [5_000, 1 << 30])
def test_int8_is_that_of_one_file(
    tiny: Path, fp32: Path, tmp_path: Path, few: Callable[[int], None], ranges: str, bound: int
) -> None:
    stage = OnnxInt8(ranges=ranges)  # type: ignore[arg-type]
    few(bound)  # int8 weights are few enough where fp32 ones are not
    stage.run(fp32, draft(tmp_path / "int8"), lambda: batches_of_texts(fp32, TEXTS))
    assert (DATA.name in names(tmp_path / "int8")) == (bound == 5_000)
    few(1 << 30)
    write(load(fp32 / GRAPH), (one := draft(tmp_path / "one").folder) / "model.onnx")
    shutil.copytree(fp32, tmp_path / "whole", ignore=shutil.ignore_patterns("onnx"))
    (tmp_path / "whole" / "onnx").mkdir()
    shutil.copyfile(one / "model.onnx", tmp_path / "whole" / GRAPH)
    stage.run(tmp_path / "whole", draft(tmp_path / "other"), lambda: batches_of_texts(tmp_path / "whole", TEXTS))
    sides = [OnnxEncoder(tmp_path / name, threads=1).encode(TEXTS) for name in ("int8", "other")]
    assert np.array_equal(*sides)


def test_fp16(fp32: Path, tmp_path: Path) -> None:
    Half().run(fp32, draft(tmp_path / "fp16"))
    expected = OnnxEncoder(fp32, threads=1).encode(TEXTS)
    assert np.abs(OnnxEncoder(tmp_path / "fp16", threads=1).encode(TEXTS) - expected).max() < 5e-3


def test_a_graph_stays_whole_when_it_is_written(fp32: Path, tmp_path: Path) -> None:
    model = load(fp32 / GRAPH)
    size = weights_bytes(model)
    write(model, tmp_path / "first.onnx")
    assert weights_bytes(model) == size
    write(model, tmp_path / "first.onnx")  # once more in its place: the weights are not added to
    assert (tmp_path / DATA.name).stat().st_size == (fp32 / DATA).stat().st_size
    with opened(model, __import__("onnxruntime").SessionOptions()) as session:
        assert [value.name for value in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]


def test_what_lies_elsewhere_is_not_read(fp32: Path, tmp_path: Path) -> None:
    model = onnx.load(fp32 / GRAPH, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../secret"
    onnx.save(model, tmp_path / "other.onnx")
    assert weights_bytes(load(tmp_path / "other.onnx")) < 20_000
    (fp32 / DATA).write_bytes((fp32 / DATA).read_bytes()[:100])
    with pytest.raises(ArtifactError, match=r"model\.onnx: missing, or not a whole ONNX graph$"):
        load(fp32 / GRAPH)


def test_the_key_follows_the_weights(fp32: Path) -> None:
    key = graph_of(fp32).key
    content = bytearray((fp32 / DATA).read_bytes())
    content[-1] ^= 1
    (fp32 / DATA).write_bytes(content)
    assert graph_of(fp32).key != key


def test_who_takes_one_file_says_so(fp32: Path, tmp_path: Path) -> None:
    assert all(any("lies in another file" in line for line in lines) for lines in contracts.check(fp32).values())
    with pytest.raises(ArtifactError, match=r"its weights lie in another file, which the search does not take"):
        require_one_file(fp32 / GRAPH, "the search")
    with writing(tmp_path / "artifact", "optimise", "0" * 64) as made:
        shutil.copytree(fp32, made.folder, dirs_exist_ok=True)
    with pytest.raises(ArtifactError, match="is kept in another file; weights must be in the graph"):
        list(inspect(tmp_path / "artifact"))
