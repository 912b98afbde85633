"""The gate of readers: what an artifact's answers must keep of its student's and its teacher's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from compressor.answering.questions.spans import Prediction, measure
from compressor.answering.questions.squad import Questions
from compressor.answering.readers.model import TorchReader
from compressor.answering.readers.reader import Reading
from compressor.artifact.folder import Draft
from compressor.artifact.layout import GRAPH
from compressor.core.config import Config
from exporters.graph.files import load
from exporters.precision.calibrate import dynamic_inputs
from exporters.reader import OnnxReader
from exporters.verify.embedding import Check, Fused, operator_checks, write_checks

Share = Annotated[float, Field(ge=0, le=1)]
Points = Annotated[float, Field(ge=0, le=100)]
_COMPARED = 256  # questions whose logits are compared, and that are answered alone
_RANGES_A_BATCH = 0.9  # of the answers stay the same in a batch, where it has a part in their ranges
_EXACT = 0.999  # of fp32's answers must be PyTorch's: spans whose scores are equal may change places


class ReaderVerify(Config):
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
    fused: Fused = "auto"
    """Every layer's attention and Gelu must run as one fused operator each: ``auto`` where ONNX Runtime's optimiser
    fuses the family's layers (BERT, RoBERTa, XLM-R, DistilBERT, ELECTRA and the like)."""

    def run(
        self, fp32: Path, int8: Path, student: Path, teacher_f1: float, test: Questions, reading: Reading, draft: Draft
    ) -> None:
        """Examine both artifacts and write ``checks.json`` into ``draft``; ``gate`` judges it."""
        reader = TorchReader.load(student, reading)
        expected = reader.read(test)
        checks = [
            check.as_dict()
            for name, folder in (("fp32", fp32), ("int8", int8))
            for check in self.examine(name, folder, reader, expected, teacher_f1, test)
        ]
        write_checks(checks, draft)

    def examine(
        self,
        name: str,
        folder: Path,
        student: TorchReader,
        expected: Sequence[Prediction],
        teacher_f1: float,
        test: Questions,
    ) -> list[Check]:
        """Measure the artifact in ``folder`` ("fp32" or "int8") against its student's answers and the teacher's F1."""
        reader = OnnxReader(folder, reading=student.reading)
        actual = reader.read(test)
        return [
            *self._logits(name, reader, student, test),
            *self._answers(name, expected, actual, teacher_f1, test, student.reading.no_answer_threshold),
            self._alone(name, reader, actual, test, bool(dynamic_inputs(load(folder / GRAPH)))),
            *operator_checks(name, folder, student.model.config, self.fused),
        ]

    def _logits(self, name: str, reader: OnnxReader, student: TorchReader, test: Questions) -> list[Check]:
        windows = reader.cutter.cut(test[:_COMPARED])
        sides = zip(reader.logits(windows), student.logits(windows), strict=True)
        # Not max() of the differences: it would pass over a NaN.
        worst = float(np.max([np.abs(a - b).max() for own, theirs in sides for a, b in zip(own, theirs, strict=True)]))
        bar = self.parity if name == "fp32" else None
        return [Check(name, "parity with PyTorch", "max_difference", worst, bar, "<=", "verify.parity")]

    def _answers(
        self,
        name: str,
        expected: Sequence[Prediction],
        actual: Sequence[Prediction],
        teacher_f1: float,
        test: Questions,
        threshold: float | None,
    ) -> list[Check]:
        drops = [None, None] if name == "fp32" else ["verify.f1_drop", "verify.exact_drop"]
        bars = (0.1, 0.1, _EXACT) if name == "fp32" else (self.f1_drop, self.exact_drop, None)
        reference, own = (measure(test, predictions, test.version, threshold) for predictions in (expected, actual))
        equal = np.mean([a.text(threshold) == b.text(threshold) for a, b in zip(expected, actual, strict=True)])
        share = own["f1"] / max(teacher_f1, 1e-9)
        return [
            Check(name, "answers", "same_as_pytorch", float(equal), bars[2]),
            Check(name, "answers", "f1_drop", reference["f1"] - own["f1"], bars[0], "<=", drops[0]),
            Check(name, "answers", "exact_drop", reference["exact"] - own["exact"], bars[1], "<=", drops[1]),
            Check(name, "answers", "f1", own["f1"]),
            Check(name, "answers", "exact", own["exact"]),
            Check(name, "answers", "f1_of_teachers", share, self.teacher_f1, field="verify.teacher_f1"),
        ]

    def _alone(
        self, name: str, reader: OnnxReader, actual: Sequence[Prediction], test: Questions, dynamic: bool
    ) -> Check:
        some = test[:_COMPARED]
        alone = reader.read(some, batch_size=1)
        equal = np.mean([a.text() == b.text() for a, b in zip(alone, actual, strict=False)])
        bar = _RANGES_A_BATCH if dynamic else _EXACT
        if name != "fp32" and self.alone is not None:
            bar = self.alone
        field = None if name == "fp32" else "verify.alone"
        return Check(name, "batch invariance", "same_answers", float(equal), bar, field=field)
