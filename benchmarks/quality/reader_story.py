"""The story of a reader, from teacher to artifact: what each stage answers, and what it weighs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from benchmarks.reader_systems import ReaderSystem
from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Questions
from compressor.answering.readers.reader import Reading
from compressor.artifact.folder import Draft, write_json
from compressor.artifact.layout import GRAPH
from compressor.artifact.workspace import Model
from compressor.core.config import Config
from compressor.models.torch_int8 import WEIGHTS
from compressor.untrusted.weights import read_header, weights_in
from exporters.graph.files import load
from exporters.loading import reader_kind


@dataclass(frozen=True)
class Told:
    """A stage of the story: its model, how it is read, and a few words on what it did."""

    model: Model
    what: str
    reading: Reading


class Answers(Config):
    """Answer the questions to be judged by, and weigh the reader."""

    def run(self, stage: Told, test: Questions, draft: Draft) -> None:
        """Write ``answers.json`` into ``draft``: F1 and exact match on ``test``, 0 to 100, parameters and bytes."""
        folder, reading = stage.model.folder, stage.reading
        system = ReaderSystem("", "", reader_kind(folder), str(folder), reading=reading.model_dump_json())
        predictions = system.reader().read(test, 32)
        figures = {
            "parameters": parameters(stage.model),
            "size_bytes": system.size_bytes,
            "answers": measure(test, predictions, test.version, reading.no_answer_threshold),
        }
        write_json(draft.folder / "answers.json", figures)


def parameters(model: Model) -> int:
    """Count the numbers that a model holds."""
    kind = reader_kind(model.folder)
    if kind == "onnx":
        return sum(prod(tensor.dims) for tensor in load(model.folder / GRAPH).graph.initializer)
    files = [model.folder / WEIGHTS] if kind == "torch-int8" else weights_in(model.folder)
    return sum(prod(entry["shape"]) for file in files for entry in read_header(file).values())


def with_answers(systems: Sequence[Mapping[str, Any]], story: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return measured systems with the answers and parameters of their stage beside their speed."""
    by_stage = {row["stage"]: row for row in story}
    return [
        dict(system) | {name: by_stage[system["stage"]][name] for name in ("answers", "parameters")}
        for system in systems
    ]
