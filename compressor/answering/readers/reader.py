"""The seam: questions in, spans out. Teacher, student, PyTorch int8 and ONNX session are all a Reader."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from compressor.answering.questions.spans import Choosing, Logits, Prediction, best_spans
from compressor.answering.questions.squad import Question
from compressor.answering.questions.windows import Cutter, Cutting, Window, batches, padded
from compressor.artifact.folder import key_of
from compressor.artifact.layout import READING
from compressor.core.encoder import check_texts, check_whole, listed
from compressor.core.errors import ArtifactError, TextError, unreadable
from compressor.core.strict_json import read_json

Features = dict[str, NDArray[np.int64]]
RunAll = Callable[[Iterable[Features]], Iterable[tuple[Logits, Logits]]]
_AHEAD = 512  # questions cut into windows at a time: memory does not grow with their number


class Reading(Cutting, Choosing):
    """How questions and contexts are read, and answers chosen."""

    @property
    def key(self) -> str:
        """Hash of the settings."""
        return key_of(self.model_dump(mode="json"))


def write_reading(reading: Reading, folder: Path) -> None:
    """Note beside a reader how it reads."""
    stated = {name: getattr(reading, name) for name in Reading.model_fields}
    (folder / READING).write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")


def read_reading(folder: Path) -> Reading:
    """Return how the reader in ``folder`` reads; ArtifactError where that is not stated."""
    path = folder / READING
    try:
        return Reading.read(read_json(path), where=str(path))
    except PermissionError as error:
        raise ArtifactError(unreadable(path, error)) from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: missing or not JSON; not a question-answering artifact") from error


@runtime_checkable
class Reader(Protocol):
    """Anything that finds answers."""

    def read(self, questions: Sequence[Question], batch_size: int = 16) -> list[Prediction]:
        """Return a prediction a question, in their order."""
        ...

    def answer(self, questions: Sequence[str], contexts: Sequence[str], batch_size: int = 16) -> list[Prediction]:
        """Return a prediction for each question about the context beside it."""
        ...


class WindowReader(ABC):
    """A reader that runs a model over windows; what runs it gives ``run``."""

    def __init__(self, cutter: Cutter, reading: Reading, pad: int = 0) -> None:
        self.cutter, self.reading, self.pad = cutter, reading, pad

    @abstractmethod
    def run(self, features: Features) -> tuple[Logits, Logits]:
        """Return start and end logits, float32 [windows, tokens], of ``padded`` windows."""

    def run_all(self, batches: Iterable[Features]) -> Iterable[tuple[Logits, Logits]]:
        """Return what ``run`` gives for each batch, in their order."""
        return map(self.run, batches)

    def logits(
        self, windows: Sequence[Window], batch_size: int = 16, run_all: RunAll | None = None
    ) -> tuple[list[Logits], list[Logits]]:
        """Return the start and end logits of each window, float32 [tokens], run by ``run_all`` or the reader's own."""
        starts: list[Any] = [None] * len(windows)
        ends: list[Any] = [None] * len(windows)
        cut = list(batches(windows, batch_size))
        made = (run_all or self.run_all)(padded([windows[i] for i in numbers], self.pad) for numbers in cut)
        for numbers, (start, end) in zip(cut, made, strict=True):
            for row, i in enumerate(numbers):
                count = len(windows[i].ids)
                starts[i], ends[i] = start[row, :count], end[row, :count]
        return starts, ends

    def read(self, questions: Sequence[Question], batch_size: int = 16) -> list[Prediction]:
        """Return a prediction a question, in their order."""
        batch_size = check_whole("batch_size", batch_size)
        made: list[Prediction] = []
        for first in range(0, len(questions), _AHEAD):
            block = questions[first : first + _AHEAD]
            windows = self.cutter.cut(block)
            made += best_spans(block, windows, *self.logits(windows, batch_size), self.reading)
        return made

    def answer(self, questions: Sequence[str], contexts: Sequence[str], batch_size: int = 16) -> list[Prediction]:
        """Return a prediction for each question about the context beside it; TextError for what is no text."""
        questions, contexts = listed(questions, "questions"), listed(contexts, "contexts")
        if len(questions) != len(contexts):
            raise TextError("questions and contexts: give two lists of texts, as many of one as of the other")
        check_texts(questions, name="question")
        check_texts(contexts, name="context")
        asked = [
            Question(str(i), text, context) for i, (text, context) in enumerate(zip(questions, contexts, strict=True))
        ]
        return self.read(asked, batch_size)
