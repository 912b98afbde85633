"""The story of a reader, from teacher to artifact: what each stage answers, and what it weighs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from benchmarks.reader_systems import ReaderSystem
from compressor.answering.reader import Reading
from compressor.answering.spans import measure
from compressor.answering.squad import Questions
from compressor.artifact import Draft, write_json
from compressor.progress import track
from compressor.quantize import WEIGHTS
from compressor.recipe import Config
from compressor.stages import Model
from compressor.weights import read_header
from exporters.layout import GRAPH
from exporters.optimise import load
from exporters.readers import reader_kind


@dataclass(frozen=True)
class Told:
    """A stage of the story: its model, how it is read, and a few words on what it did."""

    model: Model
    what: str
    reading: Reading


class ReaderStory(Config):
    """Measure every stage's answers and size."""

    def run(self, stages: Mapping[str, Told], test: Questions, draft: Draft) -> None:
        """Write ``story.json`` into ``draft``, a row a stage: F1 and exact match on ``test``, 0 to 100."""
        rows = []
        with track("answers", len(stages), "stages") as advance:
            for name, told in stages.items():
                rows.append({"stage": name, "what": told.what} | row(told, test))
                advance(1)
        write_json(draft.folder / "story.json", rows)


def row(told: Told, test: Questions) -> dict[str, Any]:
    """Return one stage's figures."""
    folder, reading = told.model.folder, told.reading
    system = ReaderSystem("", "", reader_kind(folder), str(folder), reading=reading.model_dump_json())
    figures = measure(test, system.reader().read(test, 32), test.version, reading.no_answer_threshold)
    return {
        "parameters": parameters(told.model),
        "size_bytes": system.size_bytes,
        "seconds": told.model.figures.get("seconds"),
        "answers": figures,
    }


def parameters(model: Model) -> int:
    """Count the numbers that a model holds."""
    kind = reader_kind(model.folder)
    if kind == "onnx":
        return sum(prod(tensor.dims) for tensor in load(model.folder / GRAPH).graph.initializer)
    file = model.folder / (WEIGHTS if kind == "torch-int8" else "model.safetensors")
    return sum(prod(entry["shape"]) for entry in read_header(file).values())


def with_answers(systems: Sequence[Mapping[str, Any]], story: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return measured systems with the answers and parameters of their stage beside their speed."""
    told = {row["stage"]: row for row in story}
    return [
        dict(system) | {name: told[system["stage"]][name] for name in ("answers", "parameters")} for system in systems
    ]
