"""The ablation of a reader's distillation: ingredients, temperatures, weights, epochs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.pages.answers import ablation as table
from benchmarks.quality.story import ReaderRow
from compressor.answering.training.steps import Step
from compressor.artifact.folder import key_of
from compressor.core.errors import RecipeError
from compressor.core.figures import Figures
from compressor.core.progress import say
from compressor.core.strict_json import JsonObject
from compressor.flow.ablation.results import write
from compressor.flow.answering import ReaderFlow, ReaderRecipe
from compressor.machine.processes import alone

TEMPERATURES, WEIGHTS = (1.0, 2.0, 5.0, 10.0), (0.0, 0.5, 0.75, 1.0)
_HIGH = 5.0  # a temperature at which a teacher that knows the answers by heart still says what else it thought of


@dataclass(frozen=True)
class Variant:
    """A student made another way: what is varied, how, and the steps that make it."""

    group: str
    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Judged(Figures):
    """A variant's answers to the questions to be judged by, beside the teacher's."""

    group: str
    """Empty for the teacher."""
    name: str
    f1: float
    exact: float
    answers: Mapping[str, float]
    """F1 and exact match again, with what they are of."""
    parameters: int

    @classmethod
    def of(cls, group: str, name: str, row: ReaderRow) -> Self:
        """Take the figures of a row of the story."""
        answers = row["answers"]
        return cls(group, name, answers["f1"], answers["exact"], answers, row["parameters"])


def variants(steps: Sequence[Step]) -> list[Variant]:
    """Return the students to compare: labels alone, then one ingredient more at a time, temperatures, weights, epochs.

    Those of temperatures, weights and twice the epochs start from copied layers, as the student of labels alone does.
    The recipe's last step is the prediction layer, its last step of states alone the intermediate distillation.
    """
    last = steps[-1]
    if not last.prediction:
        raise RecipeError(f"distil.{len(steps) - 1}.prediction = 0: the last step must teach answers")
    first = {name: getattr(steps[0], name) for name in ("layers", "choice", "start")}
    answers = last.model_copy(update=first | {"start": "copied"})
    made = [
        Variant("ingredients", "labels alone", (answers.model_copy(update={"weight": 0.0}),)),
        Variant("ingredients", "+ prediction layer", (answers,)),
    ]
    if first["start"] != "copied":
        made.append(Variant("ingredients", "+ fitted start", (last.model_copy(update=first),)))
    states = next((step for step in reversed(steps) if not step.prediction), None)
    if states is not None:
        inner = states.model_copy(update=first)
        both = tuple(inner.model_copy(update={"on": on}) for on in ("questions", "augmented"))
        made.append(Variant("ingredients", "+ intermediate layers", (both[0], last)))
        made.append(Variant("ingredients", "+ augmentation", (both[1], last)))
    if len(steps) > 2 or steps[0].on == "texts":
        made.append(Variant("ingredients", "the recipe's steps", tuple(steps)))
    made += [
        Variant("temperature", f"{value:g}", (answers.model_copy(update={"temperature": value}),))
        for value in TEMPERATURES
    ]
    made += [Variant("weight", f"{value:g}", (answers.model_copy(update={"weight": value}),)) for value in WEIGHTS]
    longer = answers.model_copy(update={"epochs": 2 * answers.epochs})
    made.append(Variant("twice the epochs", "labels alone", (longer.model_copy(update={"weight": 0.0}),)))
    made += [
        Variant("twice the epochs", f"temperature {value:g}", (longer.model_copy(update={"temperature": value}),))
        for value in sorted({answers.temperature, _HIGH})
    ]
    return made


def ablation(recipe: ReaderRecipe, base: Path, runs: Path, command: str) -> JsonObject:
    """Make and judge every variant of the recipe's student; write ``ablation.json`` and ``.md`` and return the results.

    Into ``runs/<name>/``, beside what ``run`` makes there: they share teacher, questions and the recipe's own steps.
    Goes on where it was stopped, and makes equal steps once. PyTorch in fp32, F1 and exact match on the questions to
    be judged by.
    """
    alone("an ablation is made")
    started, flow = time.monotonic(), ReaderFlow.of(recipe, base, runs)
    flow.check()
    wanted, own = variants(recipe.distil), _names(recipe.distil)
    with flow.work.lock():
        flow.announce()
        rows = [Judged.of("", "teacher", flow.answers("teacher", flow.story_stage(flow.teacher, "")))]
        for variant in wanted:
            say((variant.group, "bold"), f": {variant.name}")
            names = flow.names if _names(variant.steps) == own else [f"variants/{n}" for n in _names(variant.steps)]
            *_, (name, student, _) = flow.students(names, variant.steps)
            row = flow.answers(Path(name).name, flow.story_stage(student, ""))
            rows.append(Judged.of(variant.group, variant.name, row))
            say(f"  F1 {rows[-1].f1:.2f}, EM {rows[-1].exact:.2f}")
        return write(flow, {"questions": flow.sets.facts()}, rows, command, started, table)


def _names(steps: Sequence[Step]) -> list[str]:
    """Name each step by itself and those before it: what two variants begin with is made once."""
    dumped = [step.model_dump(mode="json") for step in steps]
    return [key_of(dumped[:count])[:12] for count in range(1, len(steps) + 1)]
