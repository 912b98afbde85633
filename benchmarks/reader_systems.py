"""What is measured of readers: each system a few words of text, so that a fresh process can open the same one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.systems import System, threads_of
from compressor.answering.questions.squad import Question
from compressor.answering.readers.reader import Reader, Reading
from exporters.loading import open_reader_of

Pair = Sequence[str]  # question and context


@dataclass(frozen=True)
class ReaderSystem(System):
    """A reader and how it is run; ``reading`` as JSON, "" for its own."""

    reading: str = ""

    def open(self) -> Any:
        """Load the reader; the libraries that it does not need stay unloaded."""
        return Asked(self.reader())

    def imports(self) -> tuple[str, ...]:
        """Name the modules that it runs on, so that a load can be timed without them."""
        onnx = ("exporters.reader",)
        return (
            onnx
            if self.kind == "onnx"
            else ("compressor.answering.readers.torch_int8", "compressor.answering.readers.model")
        )

    def reader(self) -> Reader:
        """Load the reader itself."""
        reading = Reading.model_validate_json(self.reading) if self.reading else None
        return open_reader_of(Path(self.folder), reading, self.threads)


@dataclass(frozen=True)
class Asked:
    """A reader in the encoder's place, for measuring speed: pairs of question and context in, answers out."""

    reader: Reader

    @property
    def threads(self) -> int:
        return threads_of(self.reader)

    def encode(self, pairs: Sequence[Pair], batch_size: int) -> Any:
        """Answer every pair."""
        return self.reader.answer([pair[0] for pair in pairs], [pair[1] for pair in pairs], batch_size)


def pairs_of(questions: Sequence[Question]) -> list[Pair]:
    """Return what a reader is asked."""
    return [(question.text, question.context) for question in questions]
