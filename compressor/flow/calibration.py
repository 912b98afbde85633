"""What an int8 artifact is calibrated on, and what it is then compared with fp32 on: texts, or questions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from compressor.answering.questions.squad import Questions, read_squad
from compressor.artifact.workspace import Keyed
from compressor.core.errors import RecipeError
from compressor.texts.corpus import TextSource, read_corpus
from exporters.loading import is_reader
from exporters.precision.calibrate import Batch, batches_of_texts
from exporters.precision.int8 import OnnxInt8
from exporters.reader import batches_of_questions
from exporters.session import OnnxEncoder
from exporters.verify.closeness import Closeness, of_cases, of_questions, of_texts

_HELDOUT = 10  # one question in so many


@dataclass(frozen=True)
class Sample:
    """What a command quantizes on."""

    inputs: list[Keyed]
    batches: Callable[[], Iterable[Batch]] | None
    """What ranges are measured on; None where each batch gives them."""
    compare: Callable[[Path], Closeness]
    """Says how close a finished int8 folder is to fp32, on what its ranges were not measured on."""


def sample_of(
    fp32: Path, int8: OnnxInt8, texts: TextSource | None, questions: Path | None, limit: int | None
) -> Sample:
    """Return the sample of an encoder or a reader in ``fp32``; RecipeError where a reader's questions are wanting."""
    if is_reader(fp32):
        if texts is not None:
            raise RecipeError("--texts: a reader's ranges are of questions; give --questions, or --ranges batch")
        return _of_questions(fp32, int8, questions, limit)
    if questions is not None:
        raise RecipeError(f"--questions {questions}: an option of readers; an encoder takes --texts")
    corpus, measured = read_corpus(texts, limit), int8.ranges != "batch"
    return Sample(
        [corpus],
        (lambda: batches_of_texts(fp32, corpus.train[: int8.sample])) if measured else None,
        lambda made: of_texts(OnnxEncoder(fp32), OnnxEncoder(made), corpus.heldout),
    )


def _of_questions(fp32: Path, int8: OnnxInt8, questions: Path | None, limit: int | None) -> Sample:
    """Hold the last questions out; without any, compare on the texts of the conformance set."""
    measured = int8.ranges != "batch"
    if questions is None and measured:
        raise RecipeError(
            "--questions: calibrated ranges of a reader need them; give a file in SQuAD's format, or --ranges batch"
        )
    if questions is None:
        return Sample([], None, lambda made: of_cases(fp32, made))
    asked = read_squad(questions)[:limit]
    train, heldout = parted(asked)
    return Sample(
        [asked],
        (lambda: batches_of_questions(fp32, train, int8.sample)) if measured else None,
        lambda made: of_questions(fp32, made, heldout) if len(heldout) else of_cases(fp32, made),
    )


def parted(asked: Questions) -> tuple[Questions, Questions]:
    """Return the questions to measure ranges on, and the last tenth, held out."""
    cut = len(asked) - len(asked) // _HELDOUT
    return asked[:cut], asked[cut:]
