"""The questions of a recipe: those to learn from, and those to be judged by."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from compressor.answering.questions.squad import TEST, THRESHOLD, Questions, read_squad
from compressor.core.config import Config, Seed
from compressor.core.errors import TextError
from compressor.core.progress import say
from compressor.texts.mixing import folded


@dataclass(frozen=True)
class Sets:
    """Questions to learn from and questions to be judged by; no context stands on both sides, nor one that differs by
    case and punctuation only."""

    train: Questions
    test: Questions
    tune: Questions | None
    """Questions of version 2.0 that the threshold of no answer is chosen on, part of neither side."""
    source: str

    def facts(self) -> dict[str, Any]:
        """Return the ``questions`` section of the results."""
        sides = {"train": self.train, "test": self.test} | ({"tune": self.tune} if self.tune else {})
        counted = {name: {"questions": len(side), "contexts": len(side.contexts)} for name, side in sides.items()}
        return counted | {"source": self.source, "version": self.test.version}


class QuestionSets(Config):
    """Questions in SQuAD's format, 1.1 or 2.0."""

    train: str
    """The file to learn from."""
    test: str | None = None
    """The file to be judged by; none: a part of the other's contexts, which is not learnt from."""
    heldout: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the contexts that is held out where there is no ``test``, and where there are questions without an
    answer, for choosing the threshold."""
    seed: Seed = 0
    """Decides which are held out."""

    def load(self, base: Path, tune: bool = True) -> Sets:
        """Read the files, given relative to ``base``; TextError for one that is not as SQuAD has it."""
        train = read_squad(base / self.train)
        source = f"{self.train}; {self.test}"
        if self.test is None:
            train, test = self._parted(train, TEST)
            source = f"{self.train}, {self.heldout:g} of its contexts held out"
        else:
            train, test = self._without(train, read_squad(base / self.test))
        aside = None
        if tune and train.silent:
            train, aside = self._parted(train, THRESHOLD)
        if not any(question.answers for question in train):
            raise TextError(f"questions: {self.train}: no question with an answer is left to learn from")
        return Sets(train, test, aside, source)

    def _parted(self, questions: Questions, purpose: str) -> tuple[Questions, Questions]:
        try:
            return questions.split(self.heldout, self.seed, purpose)
        except TextError as error:
            raise TextError(f"questions.{error}") from error

    def _without(self, train: Questions, test: Questions) -> tuple[Questions, Questions]:
        """Leave out what stands in the test, too: it would be judged by what it has learnt."""
        if test.version[:1] != train.version[:1]:
            # A file that states none may be of either version where all its questions have an answer.
            version = max(train.version, test.version)
            if any(side.stated and side.version < version for side in (train, test)):
                raise TextError(f"questions: {self.train} is version {train.version}, {self.test} {test.version}")
            train, test = Questions(train.questions, version), Questions(test.questions, version)
        known = {folded(context.encode()) for context in test.contexts}
        own = {context for context in train.contexts if folded(context.encode()) not in known}
        kept = [question for question in train if question.context in own]
        if not kept:
            raise TextError(f"questions: all contexts of {self.train} stand in {self.test}; nothing is left to learn")
        if len(kept) < len(train):
            left = f"{len(train) - len(kept):,} left out: their contexts stand in {self.test}"
            say(("questions", "yellow"), f": {left}")
        return Questions(kept, train.version, train.stated), test
