"""The ablation of an encoder's distillation: its losses one by one, the length of its texts, the size of its steps."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pages.searching import ablation as table
from benchmarks.quality.story import EncoderRow, row
from compressor.artifact.folder import key_of, write_json
from compressor.artifact.workspace import Workspace
from compressor.core.errors import RecipeError
from compressor.core.figures import Figures
from compressor.core.files import replace_text
from compressor.core.progress import say
from compressor.core.strict_json import JsonObject
from compressor.distil.training.embedding import Distil
from compressor.flow.branch import Branch
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.models.projection import Projection
from compressor.vectors.retrieval import Found

_TRIED = 0.3  # the weight of a loss that the recipe leaves out
_OF_VECTORS = ("pairwise", "ranking", "order", "margin")  # beside mse, of which cosine is half
_SHORT = 64  # tokens that texts are cut at


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
    """Return the students to compare: the recipe's own, each of its losses left out, others added, and its steps.

    The squared distance to the teacher's vector stays, unless it is all there is to leave.
    """
    asked = [name for name in _OF_VECTORS if name in distil.asked]
    more = [name for name in _OF_VECTORS if name not in distil.asked]
    made = [Variant("", "the recipe's", {})]
    made += [Variant("losses", f"without {name}", {name: 0.0}) for name in asked if len(distil.asked) > 1]
    made += [Variant("losses", f"with {name} = {_TRIED}", {name: _TRIED}) for name in more]
    if distil.max_length > _SHORT:
        made.append(Variant("length of texts", f"cut at {_SHORT} tokens", {"max_length": _SHORT}))
    sizes = [distil.batch_size * 4, distil.batch_size * 2, distil.batch_size // 2]
    made += [Variant("texts in a step", f"{size}", {"batch_size": size}) for size in sizes if size]
    return made


def ablation(recipe: Recipe, base: Path, runs: Path, command: str) -> JsonObject:
    """Make and judge every variant of the recipe's student; write ``ablation.json`` and ``.md`` and return the results.

    Into ``runs/<name>/``, beside what ``run`` makes there: they share teacher, texts, index and the recipe's own
    student. Goes on where it was stopped. Agreement is measured on the held-out texts, STS and retrieval on what
    ``bench`` names. Raises RecipeError for a recipe without ``distil``.
    """
    started, trunk = time.monotonic(), EmbeddingFlow.of(recipe, base, runs)
    if recipe.distil is None:
        raise RecipeError("distil: an ablation needs the section; the recipe has none")
    trunk.check()
    sts, folder = recipe.bench.check(base), trunk.work.folder
    with trunk.work.lock():
        trunk.announce()
        teacher = row("teacher", trunk.teacher, trunk.heldout, None, sts, trunk.searches)
        rows = [Judged.of("", "teacher", {}, teacher)]
        for variant in variants(recipe.distil):
            say((variant.group or "student", "bold"), f": {variant.name}")
            student = _flow(trunk, recipe.distil, variant).distil()
            found = row("distil", student, trunk.heldout, Projection.load(student.folder), sts, trunk.searches)
            rows.append(Judged.of(variant.group, variant.name, student.figures, found))
        results = trunk.head().as_dict() | {
            "texts": trunk.corpus.facts(),
            "rows": [judged.as_dict() for judged in rows],
            "command": command,
            "seconds": time.monotonic() - started,
        }
        write_json(folder / "ablation.json", results)
        replace_text(folder / "ablation.md", table(results) + "\n")
    return results


def _flow(trunk: EmbeddingFlow, distil: Distil, variant: Variant) -> EmbeddingFlow:
    if not variant.fields:
        return trunk
    changed = distil.model_copy(update=variant.fields)
    name = key_of(changed.model_dump(mode="json"))[:12]
    recipe = trunk.recipe.model_copy(update={"distil": changed})
    return Branch(recipe, trunk.base, Workspace(trunk.work.folder / "variants" / name), trunk)
