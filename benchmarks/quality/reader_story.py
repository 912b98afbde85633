"""The story of a reader, from teacher to artifact: what each stage answers, and what it weighs."""

from dataclasses import dataclass

from benchmarks.quality.story import parameters
from benchmarks.systems import System
from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Questions
from compressor.answering.readers.reader import Reading
from compressor.artifact.folder import Draft, write_json
from compressor.artifact.workspace import Model
from compressor.core.config import Config
from exporters.loading import open_reader_of, reader_kind
from exporters.tasks import ANSWERING


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
        predictions = open_reader_of(folder, reading).read(test, 32)
        figures = {
            "parameters": parameters(stage.model.folder),
            "size_bytes": System("", "", reader_kind(folder), str(folder), task=ANSWERING).size_bytes,
            "answers": measure(test, predictions, test.version, reading.no_answer_threshold),
        }
        write_json(draft.folder / "answers.json", figures)
