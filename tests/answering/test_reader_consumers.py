"""A reader's artifact in the libraries that people load it with; they hold transformers below 5."""

from pathlib import Path
from typing import Any

import pytest
import transformers
from questions import make_readers, questions

from compressor.artifact.layout import GRAPH
from exporters.reader import OnnxReader

TEST = questions(40, seed=1)
LATER = int(transformers.__version__.partition(".")[0]) >= 5
needs_pipeline = pytest.mark.skipif(LATER, reason="transformers 5 has no question-answering pipeline")


@pytest.fixture(scope="module")
def home(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_readers(tiny, tmp_path_factory.mktemp("readers"))


def answers(model: Any, tokenizer: Any) -> list[str]:
    ask = transformers.pipeline("question-answering", model=model, tokenizer=tokenizer)
    said = [
        ask(question=one.text, context=one.context, max_seq_len=48, doc_stride=8, max_answer_len=30) for one in TEST
    ]
    return [one["answer"] for one in said]


@needs_pipeline
@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_optimum_onnx_loads_it_unchanged(home: Path, form: str) -> None:
    runtime = pytest.importorskip("optimum.onnxruntime", reason="optimum-onnx is not installed")
    model = runtime.ORTModelForQuestionAnswering.from_pretrained(home / form, file_name=GRAPH.name, subfolder="onnx")
    tokenizer = transformers.AutoTokenizer.from_pretrained(home / form)
    wanted = [one.text() for one in OnnxReader(home / form).read(TEST, batch_size=1)]
    assert answers(model, tokenizer) == wanted


@needs_pipeline
def test_a_pipeline_takes_the_pytorch_reader(home: Path) -> None:
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(home / "reader")
    tokenizer = transformers.AutoTokenizer.from_pretrained(home / "reader")
    assert answers(model, tokenizer) == [one.text() for one in OnnxReader(home / "fp32").read(TEST)]
