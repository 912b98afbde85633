"""The ablation of an encoder's distillation: its losses one by one, the length of its texts, the size of its steps, its
learning rates."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pages.searching import ablation as table
from benchmarks.quality.story import EncoderRow
from compressor.artifact.folder import key_of
from compressor.artifact.workspace import Workspace
from compressor.core.errors import RecipeError
from compressor.core.figures import Figures
from compressor.core.progress import say
from compressor.core.strict_json import JsonObject
from compressor.distil.training.embedding import Distil
from compressor.distil.training.losses import NAMES
from compressor.flow.ablation.results import write
from compressor.flow.branch import Branch
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.machine.processes import alone
from compressor.vectors.retrieval import Found

_TRIED = 0.3  # the weight of a loss that the recipe leaves out
_ADDED = ("pairwise", "ranking", "order", "margin")  # beside mse, of which cosine is half
_SHORT = 64  # tokens that texts are cut at
_FASTER = 3.0  # times the learning rate
_FAST, _SLOW = 1e-3, 3e-5  # learning rates of the vocabulary, beside that of the layers and none


@dataclass(frozen=True)
class Variant:
    """A student made another way: what is varied, how, and the fields of ``distil`` that make it."""

    group: str
    name: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Judged(Figures):
    """What a variant's student keeps of the teacher, in PyTorch and fp32."""

    group: str
    """Empty for the teacher and for the recipe's own student."""
    name: str
    texts_seen: int | None
    train_seconds: float | None
    agreement: Mapping[str, float]
    sts: Mapping[str, float]
    retrieval: Mapping[str, Found]

    @classmethod
    def of(cls, group: str, name: str, figures: Mapping[str, Any], found: EncoderRow) -> "Judged":
        """Take the figures of a student's training, and of a row of the story."""
        trained = figures.get("texts_seen"), figures.get("train_seconds")
        return cls(group, name, *trained, found["agreement"], found["sts"], found["retrieval"])


def variants(distil: Distil) -> list[Variant]:
    """Return the students to compare: the recipe's own, without each of its losses, with others, and in other steps.

    The squared distance to the teacher's vector stays, and so does a loss that stands alone.
    """
    asked = [name for name in NAMES if name in distil.asked]
    made = [Variant("", "the recipe's", {})]
    made += [Variant("losses", f"without {name}", {name: 0.0}) for name in asked if name != "mse" and len(asked) > 1]
    made += [Variant("losses", f"with {name} = {_TRIED}", {name: _TRIED}) for name in _ADDED if name not in asked]
    if distil.max_length > _SHORT:
        made.append(Variant("length of texts", f"cut at {_SHORT} tokens", {"max_length": _SHORT}))
    sizes = [distil.batch_size * 4, distil.batch_size * 2, distil.batch_size // 2]
    made += [
        Variant("texts in a step", f"{size}", {"batch_size": size})
        for size in sizes
        if size and size % distil.accumulate == 0
    ]
    made += [
        Variant("learning rate", f"{rate:g}", {"learning_rate": rate})
        for rate in (distil.learning_rate * _FASTER, distil.learning_rate / _FASTER)
    ]
    own = distil.embedding_learning_rate
    rates = (
        (_FAST, distil.learning_rate, _SLOW, 0.0) if distil.layers != 0 else ()
    )  # a static student is all vocabulary
    made += [
        Variant("learning rate of the vocabulary", f"{rate:g}", {"embedding_learning_rate": rate})
        for rate in dict.fromkeys(rates)
        if rate != (distil.learning_rate if own is None else own)
    ]
    return made


def ablation(recipe: Recipe, base: Path, runs: Path, command: str) -> JsonObject:
    """Make and judge every variant of the recipe's student; write ``ablation.json`` and ``.md`` and return the results.

    Into ``runs/<name>/``, beside what ``run`` makes there: they share teacher, texts, index and the recipe's own
    student. Goes on where it was stopped. Agreement is measured on the held-out texts, STS and retrieval on what
    ``bench`` names. Raises RecipeError for a recipe without ``distil``.
    """
    alone("an ablation is made")
    started, trunk, distil = time.monotonic(), EmbeddingFlow.of(recipe, base, runs), recipe.distil
    if distil is None:
        raise RecipeError("distil: an ablation needs the section; the recipe has none")
    trunk.check()
    with trunk.work.lock():
        rows = judged(trunk, distil, variants(distil))
        return write(trunk, {"texts": trunk.facts()}, rows, command, started, table)


def judged(trunk: EmbeddingFlow, distil: Distil, made: Sequence[Variant]) -> list[Judged]:
    """Make and judge the teacher and every variant of ``distil``; one without fields is the recipe's own student."""
    trunk.announce()
    [teacher] = trunk.story({"teacher": trunk.teacher}, "variants/teacher")
    rows = [Judged.of("", "teacher", {}, teacher)]
    for variant in made:
        say((variant.group or "student", "bold"), f": {variant.name}")
        changed = distil.model_copy(update=variant.fields)
        folder = f"variants/{key_of(changed.model_dump(mode='json'))[:12]}"
        student = (_branch(trunk, changed, folder) if variant.fields else trunk).distil()
        [found] = trunk.story({"distil": student}, f"{folder}/story")
        rows.append(Judged.of(variant.group, variant.name, student.figures, found))
    return rows


def _branch(trunk: EmbeddingFlow, distil: Distil, folder: str) -> EmbeddingFlow:
    recipe = trunk.recipe.model_copy(update={"distil": distil})
    return Branch(recipe, trunk.base, Workspace(trunk.work.folder / folder), trunk)
