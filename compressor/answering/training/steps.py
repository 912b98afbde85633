"""A recipe's distillation of a reader in steps, each from the student that the last one left."""

from collections.abc import Sequence
from typing import Literal

from compressor.answering.questions.squad import Question, Questions
from compressor.answering.training.distil import ReaderDistil
from compressor.core.errors import RecipeError

On = Literal["questions", "augmented", "texts"]


class Step(ReaderDistil):
    """Teach the student: the first step makes it of the teacher's layers, the others go on from it."""

    on: On = "questions"
    """What is read: the questions, those and their augmented copies, or plain texts, for states alone."""

    @property
    def title(self) -> str:
        """Say in a few words what the step teaches, and on what."""
        answers = {0.0: "labels", 1.0: "teacher's logits"}.get(self.weight, "labels and teacher's logits")
        taught = [*([answers] if self.prediction else []), *self.states]
        return f"{', '.join(taught)}; on {self.on}"


def check_steps(steps: Sequence[Step], depth: int) -> None:
    """Raise RecipeError for steps that do not fit a teacher of ``depth`` layers, or each other."""
    for number, step in enumerate(steps):
        where = f"distil.{number}"
        if number:
            for name in ("layers", "choice", "start"):
                if name in step.model_fields_set:
                    raise RecipeError(f"{where}.{name}: the first step alone makes the student; leave it out")
            step.matched(depth, len(steps[0].kept(depth)))
        else:
            step.check(depth)
        if not (step.prediction or step.states):
            raise RecipeError(f"{where}.prediction = 0 with no other loss: give at least one of them weight")
        if step.on == "texts" and step.prediction:
            raise RecipeError(f"{where}.prediction = {step.prediction:g}: plain texts have no answers; must be 0")


def as_questions(texts: Sequence[str]) -> Questions:
    """Return plain texts as contexts that nothing is asked about."""
    return Questions([Question(str(number), "", text) for number, text in enumerate(texts)], "2.0")
