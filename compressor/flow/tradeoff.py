"""The trade-off of depth: the recipe's model at every count of layers, made one by one and measured in one run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.tradeoff.table import depth_name, label_of
from compressor.artifact.cases import Precision
from compressor.artifact.workspace import Workspace
from compressor.core.errors import RecipeError
from compressor.distil.training.embedding import Distil
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.flow.variants import LEFT_OUT, Comparison, Variant


def tradeoff(
    recipe: Recipe,
    layers: Sequence[int],
    base: Path,
    runs: Path,
    command: str,
    precisions: Sequence[Precision] = ("int8",),
) -> dict[str, Any]:
    """Make the recipe's model with each count of ``layers``, measure all beside the teacher, return the results.

    Writes ``tradeoff.json``, ``.md``, ``.svg`` and an artifact a student into ``runs/<name>-tradeoff/``; goes on
    where it was stopped. A student below its bars is measured and not handed out; GateError if none passed.
    The recipe's ``quantize``, ``fp16`` and ``search`` are left out, here and in the recipe that an artifact states: a
    student's forms are fp32 and int8, the latter as ``int8`` says.
    """
    trunk = EmbeddingFlow(recipe, base, workspace(recipe, runs))

    def plan(trunk: EmbeddingFlow, depth: int) -> list[Variant]:
        check_counts(layers, depth)
        return [of_layers(recipe, count, depth, tuple(precisions)) for count in sorted(layers, reverse=True)]

    return Comparison(trunk, command).run(plan)


def workspace(recipe: Recipe, runs: Path) -> Workspace:
    """Return where the trade-off of a recipe is made."""
    return Workspace(runs / f"{recipe.name}-tradeoff")


def read_counts(text: str) -> list[int]:
    """Read ``--layers``: whole numbers, commas between them."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise RecipeError(f"--layers {text}: expected counts of layers, as 6,4,2,0") from error


def read_precisions(text: str) -> tuple[Precision, ...]:
    """Read ``--precision``: the artifacts of a student that are measured and handed out."""
    known: dict[str, tuple[Precision, ...]] = {"int8": ("int8",), "fp32": ("fp32",), "both": ("fp32", "int8")}
    if text not in known:
        raise RecipeError(f"--precision {text}: must be int8, fp32 or both")
    return known[text]


def check_counts(layers: Sequence[int], depth: int) -> None:
    """Raise RecipeError for counts that the teacher does not have, or that stand twice."""
    stated = f"--layers {','.join(map(str, layers))}"
    if not layers:
        raise RecipeError("--layers: give at least one count")
    if outside := [n for n in layers if not 0 <= n <= depth]:
        raise RecipeError(f"{stated}: {outside[0]} is not in 0..{depth}; the teacher has {depth} layers")
    if twice := [n for n in layers if list(layers).count(n) > 1]:
        raise RecipeError(f"{stated}: {twice[0]} stands twice")


def of_layers(recipe: Recipe, count: int, depth: int, precisions: tuple[Precision, ...]) -> Variant:
    """Return the recipe's model with ``count`` layers."""
    made = with_layers(recipe, count, depth)
    return Variant(depth_name(count), label_of(count), made, {"layers": count}, precisions)


def with_layers(recipe: Recipe, count: int, depth: int) -> Recipe:
    """Return the recipe with a student of ``count`` layers; at the teacher's own depth nothing is distilled."""
    values = recipe.model_dump(mode="json") | {"name": f"{recipe.name}-{count}-layers", **LEFT_OUT}
    own = (recipe.distil or Distil()).model_dump(mode="json")
    values["distil"] = None if count == depth else own | {"layers": count}
    return Recipe.read(values, f"--layers {count}")
