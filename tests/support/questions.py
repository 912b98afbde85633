"""Questions that a tiny model learns to answer in seconds."""

import json
import random
from pathlib import Path
from typing import Any

from builders import sentences

from benchmarks.report.page import as_toml
from compressor.answering.questions.squad import Answer, Question, Questions
from compressor.answering.readers.reader import Reading
from compressor.answering.training.finetune import Finetune
from compressor.artifact.folder import Draft
from exporters.graph.export_reader import ReaderExport
from exporters.graph.optimise import Optimise
from exporters.precision.int8 import OnnxInt8
from exporters.reader import batches_of_questions

SHAPE: dict[str, Any] = {"max_length": 48, "stride": 8, "max_question": 12}
TRAINED: dict[str, Any] = {"precision": "fp32", "learning_rate": 3e-3}
STEPS = (
    TRAINED | {"layers": 2, "prediction": 0.0, "hidden": 1.0, "on": "texts", "epochs": 1.0},
    TRAINED | {"prediction": 0.0, "hidden": 1.0, "attention": 1.0, "on": "augmented", "epochs": 2.0},
    TRAINED | {"epochs": 4.0, "weight": 0.5},
)

_ASKED = {
    "cat or dog or bird ?": ("cat", "dog", "bird"),
    "red or green or blue ?": ("red", "green", "blue"),
    "river or city or road ?": ("river", "city", "road"),
}
_FILLED = [
    "the",
    "a",
    "two",
    "three",
    "man",
    "woman",
    "child",
    "sleeps",
    "runs",
    "eats",
    "sees",
    "plays",
    "walks",
    "big",
    "old",
    "new",
    "today",
    "here",
    "and",
    "with",
    "under",
]


def questions(count: int, seed: int = 0, unanswerable: bool = False) -> Questions:
    """Return questions that ask which of three words the context holds; of some, maybe, it holds none."""
    source, made = random.Random(seed), []
    for number in range(count):
        words = [source.choice(_FILLED) for _ in range(source.randint(6, 14))]
        asked = source.choice(list(_ASKED))
        for text, allowed in _ASKED.items():
            if text != asked or not (unanswerable and source.random() < 0.4):
                words.insert(source.randint(0, len(words)), source.choice(allowed))
        context = " ".join(words)
        said = [word for word in words if word in _ASKED[asked]]
        answers = tuple(Answer(word, f" {context} ".index(f" {word} ")) for word in said)
        made.append(Question(f"{seed}-{number}", asked, context, answers))
    return Questions(made, "2.0" if unanswerable else "1.1")


def write_squad(path: Path, asked: Questions) -> Path:
    """Write ``asked`` as a SQuAD file."""
    path.write_text(json.dumps(asked.as_squad()), "utf-8")
    return path


def write_reader_recipe(home: Path, tiny: Path, version: str = "1.1", **sections: Any) -> Path:
    """Write a recipe for question answering, ``answers.toml``, and its data into ``home``; return the recipe."""
    home.mkdir(parents=True, exist_ok=True)
    silent = version == "2.0"
    write_squad(home / "train.json", questions(400, unanswerable=silent))
    write_squad(home / "test.json", questions(80, seed=1, unanswerable=silent))
    (home / "texts.txt").write_text("\n".join(sentences(300)), "utf-8")
    values = {
        "task": "question-answering",
        "teacher": {"model": str(tiny)},
        "questions": {"train": "train.json", "test": "test.json"},
        "reading": SHAPE,
        "finetune": TRAINED | {"learning_rate": [3e-3], "epochs": [10.0]},
        "augment": {"factor": 1},
        "texts": {"source": "texts.txt"},
        "distil": [dict(step) for step in STEPS],
        "verify": {"f1_drop": 5.0, "exact_drop": 10.0, "teacher_f1": 0.7},
        "bench": {"count": 16, "rounds": 2, "queries": 20, "batch_sizes": [4, 16], "lengths": [32]},
    }
    path = home / "answers.toml"
    path.write_text(as_toml(values | sections) + "\n\n[quantize]\n", "utf-8")
    return path


def make_readers(encoder: Path, home: Path) -> Path:
    """Train a reader of ``encoder`` into ``home``, with its ``plain``, ``fp32`` and ``int8`` artifacts."""
    for name in ("reader", "plain", "fp32", "int8"):
        (home / name).mkdir()
    settings = SHAPE | {"precision": "fp32", "learning_rate": (3e-3,), "epochs": (10.0,)}
    Finetune(**settings).run(encoder, questions(400), home / "checkpoints", Draft(home / "reader"))
    ReaderExport().run(home / "reader", Reading(**SHAPE), Draft(home / "plain"))
    Optimise().run(home / "plain", Draft(home / "fp32"))
    OnnxInt8().run(
        home / "fp32", Draft(home / "int8"), lambda: batches_of_questions(home / "fp32", questions(100), 100)
    )
    return home
