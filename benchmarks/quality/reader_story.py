"""The story of a reader, from teacher to artifact: what each stage answers, and what it weighs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.quality.story import parameters
from benchmarks.reader_systems import ReaderSystem
from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Questions
from compressor.answering.readers.reader import Reading
from compressor.artifact.folder import Draft, write_json
from compressor.artifact.workspace import Model
from compressor.core.config import Config
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
            "parameters": parameters(stage.model.folder),
            "size_bytes": system.size_bytes,
            "answers": measure(test, predictions, test.version, reading.no_answer_threshold),
        }
        write_json(draft.folder / "answers.json", figures)


def with_answers(systems: Sequence[Mapping[str, Any]], story: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return measured systems with the answers and parameters of their stage beside their speed."""
    by_stage = {row["stage"]: row for row in story}
    return [
        dict(system) | {name: by_stage[system["stage"]][name] for name in ("answers", "parameters")}
        for system in systems
    ]
