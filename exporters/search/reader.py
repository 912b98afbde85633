"""The search for the fastest form of a reader."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from compressor.answering.questions.spans import best_spans
from compressor.answering.questions.squad import Questions
from compressor.answering.questions.windows import Window, padded
from compressor.answering.readers.reader import Features
from compressor.artifact.folder import Draft
from compressor.artifact.layout import ANSWERING
from compressor.core.encoder import Vectors, length_sorted_batches
from compressor.core.errors import ModelError
from exporters.precision.calibrate import Batch
from exporters.precision.int8 import OnnxInt8
from exporters.reader import OnnxReader, batches_of_questions
from exporters.runtime.running import Running
from exporters.search.contest import PASS_TOKENS, Pass, graph_pass, whole_pass
from exporters.search.subject import ALONE, COMPARED, LARGEST_BATCH, Subject, fallen_of
from exporters.search.trials import Searching
from exporters.verify.check import Share
from exporters.verify.closeness import row_cosines, side_by_side

_PADDING, _TOGETHER = 16, 32  # tokens that a window is padded by, windows of a batch


class ReaderSearch(Searching):
    """Try forms of a reader's graph on this CPU, and keep the fastest inside the gate."""

    alike: ClassVar[str] = "same_answers"
    same_answers: Share = 0.9
    """Least share of the questions that get the answer of fp32."""

    def run(self, fp32: Path, int8: OnnxInt8, sample: Questions, dev: Questions, kept: Path, draft: Draft) -> None:
        """Write the chosen form of the fp32 graph in ``fp32`` into ``draft``; see ``search``.

        Ranges are measured on ``sample``, quality and speed on ``dev``: no questions that figures are reported on.
        """
        self.search(ReaderSubject(fp32, sample, dev, dev[: self.count], self.provider), int8, kept, draft)


@dataclass(frozen=True)
class ReaderSubject(Subject):
    """A reader, judged by the logits of windows and by its answers."""

    unit = "questions"
    settings = ("batch_tokens", "threads", "arena", "bf16_products")

    def batches(self, count: int) -> Iterable[Batch]:
        return batches_of_questions(self.fp32, self.sample, count)

    @cached_property
    def _windows(self) -> list[Window]:
        return OnnxReader(self.fp32, threads=1).cutter.cut(self.dev[:COMPARED])

    @cached_property
    def _exact(self) -> tuple[list[Vectors], list[str]]:
        logits, answers = self._read(OnnxReader(self.fp32))
        if not all(np.isfinite(row).all() for row in logits):
            raise ModelError(f"{self.fp32}: logits hold NaN or infinity; its weights are damaged or too large")
        return logits, answers

    def _read(self, reader: OnnxReader) -> tuple[list[Vectors], list[str]]:
        """Return the logits of each window, and the answer to each question."""
        starts, ends = reader.logits(self._windows)
        predictions = best_spans(self.dev[:COMPARED], self._windows, starts, ends, reader.reading)
        return side_by_side(starts, ends), [prediction.text() for prediction in predictions]

    def figures(self, folder: Path, running: Running | None = None) -> dict[str, float]:
        reader = OnnxReader(folder, self.providers, running=running)
        (exact, expected), (logits, answers) = self._exact, self._read(reader)
        near = row_cosines(exact, logits)
        alone, *others = invariance(reader, self._windows[:ALONE])
        same = [own == its for own, its in zip(answers, expected, strict=True)]
        return {
            "cosine_mean": float(near.mean()),
            "cosine_min": float(near.min()),
            "same_answers": sum(same) / len(same),
            "batch_cosine_min": float(min(row_cosines(alone, changed).min() for changed in others)),
            **fallen_of(reader.placed),
        }

    def graph_pass(self, folder: Path) -> Pass:
        return graph_pass(folder, self._timed_batches(folder), ANSWERING, self.provider)

    def whole_pass(self, folder: Path, running: Running | None) -> Pass:
        reader = OnnxReader(folder, self.providers, running=running)
        return whole_pass(lambda questions: reader.read(questions, LARGEST_BATCH), self.timed)

    def _timed_batches(self, folder: Path) -> Iterator[Batch]:
        reader = OnnxReader(folder, threads=1)
        windows = reader.cutter.cut(self.timed)
        lengths = np.array([len(window.ids) for window in windows], np.int64)
        for rows in length_sorted_batches(lengths, len(windows), PASS_TOKENS):
            yield padded([windows[i] for i in rows], reader.pad)


def invariance(reader: OnnxReader, windows: list[Window]) -> tuple[list[Vectors], list[Vectors], list[Vectors]]:
    """Return the logits of ``windows`` computed alone, alone with padding, and in batches of 32, padding left out."""
    alone = [padded([window], reader.pad) for window in windows]
    room = [min(_PADDING, reader.cutter.max_length - len(window.ids)) for window in windows]
    wide = [_widened(features, more, reader.pad) for features, more in zip(alone, room, strict=True)]
    parts = [windows[i : i + _TOGETHER] for i in range(0, len(windows), _TOGETHER)]
    batched = [padded(part, reader.pad) for part in parts]
    lengths = [len(window.ids) for window in windows]
    made = ([row for features in given for row in _rows(reader, features)] for given in (alone, wide, batched))
    first, second, third = ([_cut(row, count) for row, count in zip(rows, lengths, strict=True)] for rows in made)
    return first, second, third


def _rows(reader: OnnxReader, features: Features) -> Iterator[tuple[Vectors, Vectors]]:
    """Yield the start and the end logits of each window."""
    yield from zip(*reader.run(features), strict=True)


def _cut(row: tuple[Vectors, Vectors], tokens: int) -> Vectors:
    start, end = row
    return np.concatenate([start[:tokens], end[:tokens]])


def _widened(features: Features, more: int, pad: int) -> Features:
    """Return windows with ``more`` tokens of padding."""
    filled = {"input_ids": pad}
    return {
        name: np.pad(values, ((0, 0), (0, more)), constant_values=filled.get(name, 0))
        for name, values in features.items()
    }
