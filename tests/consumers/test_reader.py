"""A reader's artifact loads in optimum-onnx as its card says, and answers as our own session does."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from questions import make_readers, questions

from compressor.answering.readers.reader import Reading, read_reading
from compressor.artifact.layout import INPUTS
from exporters.publish.card import PublishReader
from exporters.reader import OnnxReader

pytestmark = pytest.mark.consumers

ASKED = questions(40, seed=1)
QUESTION = 'question, context = "Who wrote it?", "The letter was written by Ada in 1843."\n'


def program(reading: Reading) -> str:
    """Return the card's second snippet, its last line run for every question on standard input."""
    stage = PublishReader(recipe={"name": "tiny"}, teacher="org/teacher", teacher_sha256="ab", precision="fp32")
    code = stage.card([], {"inputs": INPUTS, "reading": reading}).split("```python\n")[2].split("```")[0]
    assert code.count(QUESTION) == 1
    *before, last = code.replace(QUESTION, "").strip().splitlines()
    loop = [
        "answers = []",
        "for question, context in json.load(sys.stdin):",
        f"    {last}",
        "    answers.append(answer)",
    ]
    return "\n".join(["import json, sys", *before, *loop, 'print("ANSWERS " + json.dumps(answers))'])


@pytest.fixture(scope="module")
def home(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_readers(tiny, tmp_path_factory.mktemp("readers"))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_optimum_answers(precision: str, home: Path, python: Callable[[str], Path]) -> None:
    told = json.dumps([(one.text, one.context) for one in ASKED])
    command = [python("sentence-transformers"), "-c", program(read_reading(home / precision))]
    done = subprocess.run(command, input=told, capture_output=True, text=True, cwd=home / precision)
    assert done.returncode == 0, done.stderr[-4000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("ANSWERS "))
    own = OnnxReader(home / precision).read(ASKED, batch_size=1)
    assert json.loads(line.removeprefix("ANSWERS ")) == [one.text() for one in own]
