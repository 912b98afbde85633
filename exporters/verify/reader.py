"""The gate of readers: what an artifact's answers must keep of its student's and its teacher's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.core.errors import ModelError
from exporters.runtime.names import CPU, with_cpu
from exporters.verify.check import Check, Share, Verifying, is_exact, on_provider, operator_checks

if TYPE_CHECKING:
    from compressor.answering.questions.spans import Prediction
    from compressor.answering.questions.squad import Questions
    from compressor.answering.questions.windows import Window
    from compressor.answering.readers.model import TorchReader
    from compressor.answering.readers.reader import Reading
    from exporters.reader import OnnxReader

# NumPy, PyTorch and the runtimes are imported where they measure: `compressor verify ARTIFACT` needs none of them.

Points = Annotated[float, Field(ge=0, le=100)]
_COMPARED = 256  # questions whose logits are compared, and that are answered alone
_RANGES_A_BATCH = 0.9  # of the answers stay the same in a batch, where it has a part in their ranges
_EXACT = 0.999  # of fp32's answers must be PyTorch's: spans whose scores are equal may change places


@dataclass(frozen=True)
class Expected:
    """What a reader's artifact is held against: its PyTorch student on questions, and the teacher's F1 on them."""

    folder: Path
    student: "TorchReader"
    questions: "Questions"
    teacher_f1: float | None = None
    """Points from 0 to 100; None where there is no teacher to be held against."""

    @classmethod
    def of(cls, student: Path, reading: "Reading", questions: "Questions", teacher_f1: float | None) -> "Expected":
        """Open the student in a question-answering folder, to read as ``reading`` says; ModelError if it is none."""
        from compressor.answering.readers.model import TorchReader

        return cls(student, TorchReader.load(student, reading), questions, teacher_f1)

    @cached_property
    def predictions(self) -> "list[Prediction]":
        """The student's answers."""
        return self.student.read(self.questions)

    def open(self, artifact: Path, provider: str = CPU) -> "OnnxReader":
        """Open an artifact to read as the student does; ModelError for one that is not the student's."""
        from compressor.models.positions import check_tokens
        from exporters.reader import OnnxReader

        student = self.student
        reading = student.reading.model_copy(update={"max_length": student.cutter.max_length})
        reader = OnnxReader(artifact, with_cpu(provider), reading=reading)
        check_tokens(self.folder, student.model.get_input_embeddings().num_embeddings, reader.cutter.tokenizer)
        own, theirs = (_tokens(cutter.cut(self.questions[:_COMPARED])) for cutter in (student.cutter, reader.cutter))
        if own != theirs:
            raise ModelError(f"{self.folder}: reads other tokens of the questions than {artifact}; not its student")
        return reader


class ReaderVerify(Verifying):
    """Bars that the artifacts must clear on the questions to be judged by; a miss fails the run."""

    parity: Annotated[float, Field(gt=0)] = 1e-3
    """fp32: largest difference of a logit from PyTorch's."""
    f1_drop: Points = 0.5
    """int8: points of F1, 0 to 100, that may be lost against the PyTorch student; fp32 may lose 0.1."""
    exact_drop: Points = 1.5
    """int8: points of exact match that may be lost against the PyTorch student; fp32 may lose 0.1."""
    teacher_f1: Share = 0.9
    """Share of the teacher's F1."""
    alone: Share | None = None
    """int8: share of the answers that are the same whether a question is answered alone or in a batch; by default
    0.999, and 0.9 with ranges a batch. fp32 must keep 0.999."""

    def run(
        self,
        fp32: Path,
        int8: Path,
        student: Path,
        teacher_f1: float,
        test: "Questions",
        reading: "Reading",
        draft: Draft,
    ) -> None:
        """Examine both artifacts and write ``checks.json`` into ``draft``; ``gate`` judges it."""
        expected = Expected.of(student, reading, test, teacher_f1)
        self.check_both(fp32, int8, lambda name, folder: self.examine(name, folder, expected), draft)

    def examine(self, name: str, folder: Path, expected: Expected) -> list[Check]:
        """Measure the artifact in ``folder`` ("fp32" or "int8") against its student's answers and the teacher's F1."""
        from exporters.graph.files import load
        from exporters.precision.calibrate import dynamic_inputs

        dynamic, checks = bool(dynamic_inputs(load(folder / GRAPH))), list[Check]()
        for provider in self.providers:
            reader = expected.open(folder, provider)
            actual, exact = reader.read(expected.questions), is_exact(name, reader)
            judged = [
                self._logits(name, exact, reader, expected),
                *self._answers(name, exact, expected, actual),
                self._alone(name, exact, reader, actual, expected, dynamic),
            ]
            checks += on_provider(name, reader, judged)
        return [*checks, *operator_checks(name, folder, expected.student.model.config, self.fused)]

    def _logits(self, name: str, exact: bool, reader: "OnnxReader", expected: Expected) -> Check:
        import numpy as np

        windows = reader.cutter.cut(expected.questions[:_COMPARED])
        sides = zip(reader.logits(windows), expected.student.logits(windows), strict=True)
        # Not max() of the differences: it would pass over a NaN.
        worst = float(np.max([np.abs(a - b).max() for own, theirs in sides for a, b in zip(own, theirs, strict=True)]))
        bar = self.parity if exact else None
        return Check(name, "parity with PyTorch", "max_difference", worst, bar, "<=", "verify.parity")

    def _answers(self, name: str, exact: bool, expected: Expected, actual: Sequence["Prediction"]) -> list[Check]:
        from compressor.answering.questions.spans import measure

        drops = [None, None] if exact else ["verify.f1_drop", "verify.exact_drop"]
        bars = (0.1, 0.1, _EXACT) if exact else (self.f1_drop, self.exact_drop, None)
        test, threshold = expected.questions, expected.student.reading.no_answer_threshold
        sides = (expected.predictions, actual)
        reference, own = (measure(test, predictions, test.version, threshold) for predictions in sides)
        equal = _share(a.text(threshold) == b.text(threshold) for a, b in zip(*sides, strict=True))
        return [
            Check(name, "answers", "same_as_pytorch", equal, bars[2]),
            Check(name, "answers", "f1_drop", reference["f1"] - own["f1"], bars[0], "<=", drops[0]),
            Check(name, "answers", "exact_drop", reference["exact"] - own["exact"], bars[1], "<=", drops[1]),
            Check(name, "answers", "f1", own["f1"]),
            Check(name, "answers", "exact", own["exact"]),
            *self._teacher(name, own["f1"], expected.teacher_f1),
        ]

    def _teacher(self, name: str, f1: float, teacher_f1: float | None) -> list[Check]:
        if teacher_f1 is None:
            return []
        share = f1 / max(teacher_f1, 1e-9)
        return [Check(name, "answers", "f1_of_teachers", share, self.teacher_f1, field="verify.teacher_f1")]

    def _alone(
        self,
        name: str,
        exact: bool,
        reader: "OnnxReader",
        actual: Sequence["Prediction"],
        expected: Expected,
        dynamic: bool,
    ) -> Check:
        alone = reader.read(expected.questions[:_COMPARED], batch_size=1)
        equal = _share(a.text() == b.text() for a, b in zip(alone, actual, strict=False))
        bar = _RANGES_A_BATCH if dynamic else _EXACT
        if not exact and self.alone is not None:
            bar = self.alone
        field = None if exact else "verify.alone"
        return Check(name, "batch invariance", "same_answers", equal, bar, field=field)


def _tokens(windows: Sequence["Window"]) -> list[list[int]]:
    return [window.ids.tolist() for window in windows]


def _share(found: Iterable[bool]) -> float:
    """Return the share that is true."""
    listed = [*found]
    return sum(listed) / len(listed)
