"""Artifacts as a run hands them out, small, and views of them."""

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from questions import SHAPE, questions

from compressor.answering.readers.base import tokenizer_of
from compressor.answering.readers.model import reader_of
from compressor.answering.readers.reader import Reading
from compressor.artifact.folder import Draft, key_of, writing
from exporters.graph.export_reader import ReaderExport
from exporters.graph.optimise import Optimise
from exporters.pack import TARGETS, pack
from exporters.pack.target import Target
from exporters.precision.int8 import OnnxInt8
from exporters.reader import batches_of_questions
from exporters.verify.conformance import write_conformance

LINEAR = {"dense": 16, "activation": "Identity"}  # as principal components make it
NEEDED = {"mlflow": "mlflow", "tokenizer-in-graph": "onnxruntime_extensions"}
MLMODEL = """flavors:
  onnx: {code: null, data: model.onnx, onnx_session_options: null}
  python_function: {data: model.onnx, env: {conda: conda.yaml}, loader_module: mlflow.onnx, python_version: 3.11.7}
"""
CARD = """---
library_name: onnxruntime
pipeline_tag: {task}
tags: [onnx]
base_model: someone/something
license: mit
datasets: [some/data]
---
# A card

{precision}: äöü, and "quotes".
"""


def seal(
    made: Path,
    to: Path,
    precision: str,
    task: str = "sentence-similarity",
    name: str = "tiny",
    card: str | None = CARD,
) -> Path:
    """Copy a stage's folder as a hand-out with its card and manifest, and return it."""
    teacher = {"teacher": "someone/something", "teacher_sha256": "ab" * 32}
    config = {"recipe": {"name": name}, "precision": precision, **teacher}
    with writing(to, f"artifacts/{precision}", key_of(name, precision, task), config) as draft:
        shutil.copytree(made, draft.folder, dirs_exist_ok=True)
        (draft.folder / "manifest.json").unlink(missing_ok=True)
        if card is not None:
            (draft.folder / "README.md").write_text(card.format(task=task, precision=precision), "utf-8")
        draft.figures["needs"] = {"onnxruntime": ">=1.24", "session_options": {}}
    return to


@pytest.fixture(scope="session")
def handed_out(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a whole int8 artifact, as a run hands it out."""
    made = tmp_path_factory.mktemp("whole") / "int8"
    with writing(made, "artifacts/int8", "key", {"precision": "int8"}) as draft:
        shutil.copytree(artifacts(dense=16) / "int8", draft.folder, dirs_exist_ok=True)
        write_conformance(draft.folder, "int8")
        (draft.folder / "README.md").write_text("# A model\n")
        draft.figures.update(checks=[{"figure": "cosine", "value": 0.30000000000000004, "bar": 1e-05}], who="é")
    return made


@pytest.fixture(scope="session")
def sealed(artifacts: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the hand-outs ``fp32`` and ``int8`` of an encoder whose vectors a linear Dense makes."""
    made, home = artifacts(**LINEAR), tmp_path_factory.mktemp("sealed")
    for precision in ("fp32", "int8"):
        seal(made / precision, home / precision, precision)
    return home


@pytest.fixture(scope="session")
def reader(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the hand-outs ``fp32`` and ``int8`` of a reader that learnt nothing."""
    home = tmp_path_factory.mktemp("sealed-reader")
    for name in ("torch", "plain", "o", "q"):
        (home / name).mkdir()
    reader_of(tiny).save_pretrained(home / "torch")
    tokenizer_of(tiny).save_pretrained(home / "torch")
    ReaderExport().run(home / "torch", Reading(**SHAPE), Draft(home / "plain"))
    Optimise().run(home / "plain", Draft(home / "o"))
    OnnxInt8().run(home / "o", Draft(home / "q"), lambda: batches_of_questions(home / "o", questions(100), 100))
    for precision, made in {"fp32": "o", "int8": "q"}.items():
        seal(home / made, home / precision, precision, "question-answering", "tiny-reader")
    return home


def view(artifact: Path, to: Path, name: str, /, **options: object) -> Path:
    """Pack ``artifact`` for the target called ``name`` into ``to``, and return it."""
    target: Target = TARGETS[name].read(dict(options))
    pack(artifact, target, to)
    return to


def skip_without(name: str) -> None:
    """Skip where the package that a target needs is not installed."""
    if name in NEEDED and importlib.util.find_spec(NEEDED[name]) is None:
        pytest.skip(f"{NEEDED[name]} is not installed")


@pytest.fixture(scope="session")
def views(sealed: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Pack ``sealed`` for a target, each once a session; never write into a view."""
    made: dict[tuple[str, str], Path] = {}

    def pack_once(name: str, precision: str = "int8") -> Path:
        skip_without(name)
        if (name, precision) not in made:
            home = tmp_path_factory.mktemp("views")
            made[name, precision] = view(sealed / precision, home / "view", name, **options_of(name))
        return made[name, precision]

    return pack_once


def options_of(name: str) -> dict[str, object]:
    """Return the options with which a target takes ``sealed``."""
    return {"restrict": True} if name == "tokenizer-in-graph" else {}


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below ``folder`` by its name."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def edit_json(path: Path, **changes: object) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
