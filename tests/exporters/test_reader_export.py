"""An exported reader answers as PyTorch does, in fp32 to rounding, in int8 nearly."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from forked import forked
from questions import SHAPE, make_readers, questions, write_squad
from typer.testing import CliRunner

from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Question
from compressor.answering.readers.model import TorchReader
from compressor.answering.readers.reader import Reader, Reading
from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.cli.app import app
from compressor.core.errors import ArtifactError, ProviderError, RecipeError, TextError
from exporters.graph.export_reader import ReaderExport
from exporters.graph.files import run_operators
from exporters.precision.fp16 import Half
from exporters.precision.int8 import OnnxInt8
from exporters.reader import OnnxReader, batches_of_questions
from exporters.serving import Batcher

TEST = questions(80, seed=1)


def draft(folder: Path) -> Draft:
    folder.mkdir(parents=True)
    return Draft(folder)


@pytest.fixture(scope="module")
def home(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``reader``, and its ``plain``, ``fp32`` and ``int8`` artifacts."""
    return make_readers(tiny, tmp_path_factory.mktemp("readers"))


@pytest.mark.parametrize("form", ["plain", "fp32"])
def test_logits_are_pytorchs(home: Path, form: str) -> None:
    torch_reader, ours = TorchReader.load(home / "reader", Reading(**SHAPE)), OnnxReader(home / form, threads=2)
    windows = ours.cutter.cut(TEST)
    for batch_size in (1, 16, len(windows)):
        for side, wanted in zip(ours.logits(windows, batch_size), torch_reader.logits(windows), strict=True):
            for one, other in zip(side, wanted, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-4)


def test_answers_are_pytorchs(home: Path) -> None:
    wanted = TorchReader.load(home / "reader", Reading(**SHAPE)).read(TEST)
    made = OnnxReader(home / "fp32").read(TEST)
    assert [one.spans[0].text for one in made] == [one.spans[0].text for one in wanted]
    assert isinstance(OnnxReader(home / "fp32"), Reader)


def test_a_reader_that_was_used_goes_on_in_a_forked_child_and_pickled(home: Path) -> None:
    before = f"""
import pickle
from exporters.reader import OnnxReader
reader = OnnxReader({str(home / "fp32")!r}, threads=2)
asked = ["Who has the cat?"] * 40, ["The woman has the cat 猫 and the dog."] * 40
wanted = reader.answer(*asked)
"""
    child = "print(reader.answer(*asked) == wanted, reader.answer(asked[0][:1], asked[1][:1]) == wanted[:1])"
    after = "print(pickle.loads(pickle.dumps(reader)).answer(*asked) == wanted)"
    assert forked(before, child, after) == "True True\nTrue\n"


@pytest.mark.parametrize(
    ("questions", "contexts", "message"),
    [
        (["a", None], ["b", "c"], "question 1: NoneType was given where a text belongs"),
        (["a", "b"], ["c", "\ud800"], "context 1: holds half a character (a lone surrogate), which has no UTF-8"),
        (["a"], [("b", "c")], "context 0: tuple was given where a text belongs"),
        (7, ["a"], "questions: int was given where a list of texts belongs"),
        ("a", ["b"], "questions: one text was given where a list of texts belongs"),
        (["a"], [], "questions and contexts: give two lists of texts, as many of one as of the other"),
    ],
)
def test_what_is_no_text_is_named(questions: Any, contexts: Any, message: str, home: Path) -> None:
    reader = OnnxReader(home / "fp32", threads=1)
    with pytest.raises(TextError, match=f"^{re.escape(message)}$"):
        reader.answer(questions, contexts)
    with pytest.raises(RecipeError, match="^batch_size = 0: must be a whole number from 1$"):
        reader.answer(["a"], ["b"], batch_size=0)
    assert reader.answer([], []) == []


def test_a_batch_is_cut_to_what_a_core_keeps(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    real = OnnxReader._run

    def watched(reader: OnnxReader, session: Any, features: dict[str, Any]) -> Any:
        shapes.append(features["input_ids"].shape)
        return real(reader, session, features)

    monkeypatch.setattr(OnnxReader, "_run", watched)
    one, many = (OnnxReader(home / "fp32", threads=2).read(TEST, size) for size in (1, 64))
    assert 128 < max(rows * tokens for rows, tokens in shapes) <= 256
    assert [p.text() for p in many] == [p.text() for p in one]
    assert [p.spans[0].score for p in many] == pytest.approx([p.spans[0].score for p in one], abs=1e-3)


def test_attention_by_products_answers_the_same(home: Path, tmp_path: Path) -> None:
    for attention in ("fused", "products"):
        int8 = OnnxInt8(attention=attention)
        int8.run(home / "fp32", draft(tmp_path / attention), lambda: batches_of_questions(home / "fp32", TEST, 64))
    fused, products = (OnnxReader(tmp_path / name, threads=2) for name in ("fused", "products"))
    windows = fused.cutter.cut(TEST)
    for batch_size in (1, 16):  # with padding and without
        for side, wanted in zip(products.logits(windows, batch_size), fused.logits(windows, batch_size), strict=True):
            for one, other in zip(side, wanted, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-4)
    found = run_operators(tmp_path / "products" / GRAPH)
    assert "QAttention" not in found
    assert found["If"] == 4
    assert found["MatMulIntegerToFloat"] == 4 * 6


def test_fp16_answers_as_well(home: Path, tmp_path: Path) -> None:
    Half().run(home / "fp32", to := draft(tmp_path / "fp16"))
    wanted, made = (OnnxReader(folder).read(TEST) for folder in (home / "fp32", to.folder))
    same = [one.spans[0].text == other.spans[0].text for one, other in zip(wanted, made, strict=True)]
    assert sum(same) >= 0.97 * len(same)
    assert (to.folder / GRAPH).stat().st_size < 0.6 * (home / "fp32" / GRAPH).stat().st_size


def test_int8_answers_nearly_as_well_and_leaves_the_head_alone(home: Path) -> None:
    scores = {form: measure(TEST, OnnxReader(home / form).read(TEST), "1.1")["f1"] for form in ("fp32", "int8")}
    assert scores["fp32"] > 85
    assert scores["int8"] > scores["fp32"] - 3
    names = {
        node.op_type: node.name for node in onnx.load(home / "int8" / GRAPH).graph.node if "qa_outputs" in node.name
    }
    assert "MatMul" in names
    assert not {"MatMulInteger", "DynamicQuantizeMatMul"} & set(names)


def test_the_graphs_contract(home: Path) -> None:
    session = onnxruntime.InferenceSession(str(home / "fp32" / GRAPH))
    assert [(value.name, value.type) for value in session.get_inputs()] == [
        (name, "tensor(int64)") for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = {value.name: (value.type, value.shape) for value in session.get_outputs()}
    shape = ["batch_size", "sequence_length"]
    assert outputs == {name: ("tensor(float)", shape) for name in ("start_logits", "end_logits")}
    assert {path.name for path in (home / "fp32").iterdir()} >= {"config.json", "tokenizer.json", "reading.json"}


def test_fused_as_asked(home: Path) -> None:
    operators = [node.op_type for node in onnx.load(home / "fp32" / GRAPH).graph.node]
    assert operators.count("Attention") == 4


def test_it_reads_as_it_was_exported_to(home: Path, tmp_path: Path) -> None:
    ours = OnnxReader(home / "fp32")
    assert (ours.reading.max_length, ours.reading.stride, ours.reading.max_question) == (48, 8, 12)
    assert OnnxReader(home / "fp32", reading=Reading(max_length=40, stride=4, max_question=12)).cutter.max_length == 40
    ReaderExport().run(home / "reader", Reading(max_length=384, stride=8, max_question=12), draft(tmp_path / "long"))
    assert json.loads((tmp_path / "long" / "reading.json").read_text())["max_length"] == 64  # the model's positions


def test_what_is_no_reader_is_refused(home: Path, artifacts: Any, tmp_path: Path) -> None:
    folder = artifacts() / "fp32"
    with pytest.raises(ArtifactError, match=r"reading\.json: missing or not JSON; not a question-answering artifact$"):
        OnnxReader(folder)
    with pytest.raises(ArtifactError, match="no outputs start_logits and end_logits; not a reader$"):
        OnnxReader(folder, reading=Reading(**SHAPE))
    with pytest.raises(ProviderError, match="^CUDAExecutionProvider: not in this ONNX Runtime"):
        OnnxReader(home / "fp32", providers=["CUDAExecutionProvider"])


def test_the_commands(home: Path, tmp_path: Path) -> None:
    options = "--max-length 48 --stride 8 --max-question 12"
    test = write_squad(tmp_path / "test.json", TEST)
    sample = write_squad(tmp_path / "sample.json", questions(111))  # one in ten is held out
    lines = [
        f"export-reader {home / 'reader'} --out {tmp_path / 'fp32'} {options}",
        f"quantize {tmp_path / 'fp32'} --out {tmp_path / 'int8'} --questions {sample}",
        f"evaluate {tmp_path / 'int8'} {test} --json",
    ]
    for line in lines:
        shown = CliRunner().invoke(app, line.split())
        assert shown.exit_code == 0, shown.output
    wanted = measure(TEST, OnnxReader(home / "int8").read(TEST), "1.1")
    assert json.loads(shown.stdout) == pytest.approx(wanted)
    for form in ("fp32", "int8"):
        assert (tmp_path / form / GRAPH).read_bytes() == (home / form / GRAPH).read_bytes()


def test_a_batcher_serves_a_reader(home: Path) -> None:
    """Each question has the answer that it has alone, whoever shares its batch, and long contexts all their windows."""
    reader = OnnxReader(home / "fp32", threads=2)
    long = " ".join(question.context for question in TEST[:16])
    asked = [(question.text, question.context) for question in TEST[:30]] + [(TEST[0].text, long)]
    wanted = reader.answer([question for question, _ in asked], [context for _, context in asked], 1)
    with Batcher(reader, batch_size=8) as batcher:
        answers = [batcher.submit(*pair) for pair in asked]
        made = [answer.result(60) for answer in answers]
    assert len(reader.cutter.cut([Question("long", *asked[-1])])) > 3
    assert [one.text() for one in made] == [one.text() for one in wanted]
    for one, other in zip(made, wanted, strict=True):
        assert one.null_score == pytest.approx(other.null_score, abs=1e-4)
        assert [span.score for span in one.spans] == pytest.approx([span.score for span in other.spans], abs=1e-4)


def test_a_batcher_refuses_what_is_no_question(home: Path) -> None:
    with Batcher(OnnxReader(home / "fp32", threads=1)) as batcher:
        with pytest.raises(TextError, match=r"^context: int was given where one text belongs$"):
            batcher.submit("who ?", 3)  # type: ignore[arg-type]
        with pytest.raises(TextError, match=r"^question 0: holds half a character"):
            batcher.submit("\ud800", "cat")
        with pytest.raises(TextError, match=r"tokens; at most 12 are read"):
            batcher.submit("cat " * 13, "cat")
