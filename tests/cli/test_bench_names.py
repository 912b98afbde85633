"""Models side by side are called by as much of their paths as tells them apart."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from commands import Command, refusal
from questions import questions, write_squad

from benchmarks.speed.lengths import Lengths
from benchmarks.systems import System
from compressor.answering.questions.squad import Questions
from compressor.cli import bench as module
from compressor.cli.bench import _labels
from compressor.core.errors import RecipeError
from compressor.flow.calibration import sample_of
from exporters.precision.int8 import OnnxInt8


def made(folder: Path, names: Sequence[str]) -> list[Path]:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
    return [folder / name for name in names]


def test_the_last_parts_that_tell_them_apart(tmp_path: Path) -> None:
    runs = [f"runs/{name}/artifacts/int8" for name in ("a", "b")]
    assert _labels(made(tmp_path, ["other/fp32", *runs])) == ["other/fp32", "a/artifacts/int8", "b/artifacts/int8"]
    assert _labels(made(tmp_path, ["x/a/b", "y/a/b", "a/b"])) == ["x/a/b", "y/a/b", f"{tmp_path.name}/a/b"]
    graphs = [folder / "model.onnx" for folder in made(tmp_path, ["one/m/onnx", "two/m/onnx"])]
    for graph in graphs:
        graph.touch()
    assert _labels(graphs) == ["one/m/onnx/model.onnx", "two/m/onnx/model.onnx"]
    [folder] = made(tmp_path, ["m/int8"])
    assert _labels([folder, folder]) == ["m/int8", "m/int8"], "no more of it tells them apart"


def test_lengths_of_one_model_twice_are_refused() -> None:
    twice = [System("a/int8", "int8", "onnx", "int8")] * 2
    with pytest.raises(RecipeError, match=r"^systems int8, int8: each needs a name of its own$"):
        Lengths().measure(twice, ["a text"], 32)


def test_lengths_name_a_model_that_comes_twice(
    command: Command, texts: Path, tiny: Path, artifacts: Callable[..., Path]
) -> None:
    model = artifacts() / "int8"
    line = refusal(command("lengths", model, model, "--teacher", tiny, "--texts", texts))
    assert line.endswith(f"{model}, {model}: each needs a name of its own")


def test_a_limit_is_of_questions_too(
    command: Command, reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []
    monkeypatch.setattr(module, "readers", lambda models, teacher, asked, *_: counts.append(len(asked)))
    write_squad(asked := tmp_path / "asked.json", questions(30))
    words = ("bench", reader / "o", "--teacher", reader / "torch", "--questions", asked)
    assert command(*words, "--limit", "7")[0] == 0
    assert command(*words)[0] == 0
    assert counts == [7, 30]
    for limit, count in ((20, 20), (None, 30)):
        sample = sample_of(reader / "o", OnnxInt8(ranges="batch"), None, asked, limit)
        [given] = sample.inputs
        assert isinstance(given, Questions)
        assert len(given) == count


@pytest.mark.parametrize(
    ("words", "of"),
    [
        (("--embeddings", "4"), "an option of ONNX graphs; {0} is quantized for PyTorch; export it first"),
        (("--ranges", "batch"), "an option of ONNX graphs; {0} is quantized for PyTorch; export it first"),
        (("--questions", "q.json"), "an option of readers' graphs; {0} is quantized for PyTorch"),
    ],
)
def test_quantize_for_pytorch_has_no_options_of_graphs(
    words: tuple[str, str], of: str, command: Command, tiny: Path, tmp_path: Path
) -> None:
    line = refusal(command("quantize", tiny, "--out", tmp_path / "int8", *words))
    assert line == f"error: {' '.join(words)}: {of.format(tiny)}"
    assert not (tmp_path / "int8").exists()
