"""The trade-off of size: the student that is planned for each of several bounds on bytes, beside the whole teacher."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from compressor.artifact.cases import Precision
from compressor.core.errors import RecipeError
from compressor.core.strict_json import JsonObject
from compressor.distil.student.size import Size
from compressor.distil.training.embedding import Distil
from compressor.flow.compress.outlook import Outlook
from compressor.flow.compress.sized.choose import Planned, check_speed, plan
from compressor.flow.compress.sized.shape import Shape
from compressor.flow.compress.sized.words import usage_of
from compressor.flow.compress.wish import Wish
from compressor.flow.embedding import EmbeddingFlow, Recipe
from compressor.flow.tradeoff import of_layers, workspace
from compressor.flow.variants import LEFT_OUT, Comparison, Limit, Variant
from compressor.models.sentence_model import open_model

_KEPT = ("choice", "start", "dim")
"""Fields of a student that a plan leaves as the recipe has them."""


def tradeoff_of_sizes(
    recipe: Recipe,
    sizes: Sequence[str],
    base: Path,
    runs: Path,
    command: str,
    precisions: Sequence[Precision] = ("int8",),
    speed: str | None = None,
) -> JsonObject:
    """Make the student that is planned for each of ``sizes``, measure all beside the teacher, return the results.

    A size bounds the whole folder that is handed out: of the int8 artifact, or of the fp32 one where ``precisions``
    has no other; ``speed`` is the least throughput that a student is expected to have, as a multiple of the teacher's.
    The recipe's losses, texts, time budget and bars stay; what its student is made of is planned. Beside them stands
    the teacher itself in fp32 and int8. Otherwise as ``tradeoff`` of layers; RecipeError, before any work, for a size
    that nothing fits.
    """
    check_sizes(sizes)
    _check(recipe)
    try:
        check_speed(_wish(precisions, speed))
    except RecipeError as error:
        raise _among(sizes, error) from error
    trunk = EmbeddingFlow(recipe, base, workspace(recipe, runs))
    comparison = Comparison(trunk, command, {"varied": "size", "sizes": list(sizes)})
    return comparison.run(lambda trunk, depth: variants(trunk, depth, sizes, tuple(precisions), speed))


def read_sizes(text: str) -> list[str]:
    """Read ``--sizes``: 8MB, 5 MB or counts of bytes, commas between them."""
    return [part.strip() for part in text.split(",")]


def check_sizes(sizes: Sequence[str]) -> None:
    """Raise RecipeError for what is no size, and for one that stands twice."""
    if not sizes or not all(sizes):
        raise RecipeError(f"{_stated(sizes)}: expected sizes, as 13.5MB,5MB,2MB")
    seen: dict[float, str] = {}
    for size in sizes:
        most = _bytes(sizes, size)
        if most in seen:
            raise RecipeError(f"{_stated(sizes)}: {size} stands twice")
        seen[most] = size


def variants(
    trunk: EmbeddingFlow,
    depth: int,
    sizes: Sequence[str],
    precisions: tuple[Precision, ...],
    speed: str | None = None,
) -> list[Variant]:
    """Plan a student for each size, the largest first, behind the teacher itself; RecipeError for what nothing fits."""
    model = open_model(trunk.teacher.folder)
    outlook = Outlook.of(trunk.source, model)
    usage = usage_of(model, outlook, trunk.corpus.train)
    pca = trunk.recipe.pca
    wish = _wish(precisions, speed).model_copy(update={"dim": None if pca is None else pca.dim})
    planned: dict[str, Planned] = {}
    for size in sorted(sizes, key=lambda size: _bytes(sizes, size), reverse=True):
        try:
            found = plan(wish.model_copy(update={"size": size}), outlook, usage)
        except RecipeError as error:
            raise _among(sizes, error) from error
        if twin := next((other for other, made in planned.items() if made.shape == found.shape), None):
            raise RecipeError(f"{_stated(sizes)}: {twin} and {size} are one student: {found.shape.words(outlook)}")
        planned[size] = found
    students = [_variant(trunk.recipe, size, found, outlook, precisions) for size, found in planned.items()]
    return [_whole(trunk.recipe, depth), *students]


def with_shape(recipe: Recipe, name: str, shape: Shape) -> Recipe:
    """Return the recipe with a student of ``shape``; with the teacher itself where that has nothing to distil."""
    values = recipe.model_dump(mode="json") | {"name": f"{recipe.name}-{name}", **LEFT_OUT}
    own = (recipe.distil or Distil()).model_dump(mode="json")
    learnt = {field: value for field, value in own.items() if field in _KEPT or field not in Size.model_fields}
    values["distil"] = None if shape.layers is None else learnt | shape.distil()
    values["int8"] |= {"embeddings": shape.bits}
    return Recipe.read(values, f"--sizes {name}")


def _variant(
    recipe: Recipe, size: str, planned: Planned, outlook: Outlook, precisions: tuple[Precision, ...]
) -> Variant:
    name, shape = _name(size), planned.shape
    most = _bytes([size], size)
    facts = {
        "size": size,
        "most_bytes": most,
        "layers": outlook.depth if shape.layers is None else shape.layers,
        "plan": shape.words(outlook),
        "shape": asdict(shape),
        "planned_bytes": planned.bytes,
        "expected_loss": planned.loss,
    }
    return Variant(name, name, with_shape(recipe, name, shape), facts, precisions, Limit(size, most, precisions[-1]))


def _name(size: str) -> str:
    """Return a size as a folder's name has it: 5 MB as 5MB, 1e+6 as 1e6, .5MB as 0.5MB."""
    name = re.sub(r"[\s+]+", "", size)
    return f"0{name}" if name.startswith(".") else name


def _whole(recipe: Recipe, depth: int) -> Variant:
    """Return the teacher itself, in fp32 and int8: no student, to stand beside them."""
    bare = recipe.model_copy(update={"int8": recipe.int8.model_copy(update={"embeddings": 8})})
    made = of_layers(bare, depth, depth, ("fp32", "int8"))
    facts = {"size": None, "plan": "all layers, nothing distilled", **made.facts}
    return replace(made, facts=facts, beside=True)


def _check(recipe: Recipe) -> None:
    """Refuse what a plan knows nothing of."""
    if recipe.distil and (recipe.distil.dim or recipe.distil.model):
        field = "dim" if recipe.distil.dim else "model"
        ways = "leave it out" + ("; shorter vectors are had by pca.dim" if recipe.distil.dim else "")
        raise RecipeError(f"distil.{field} = {getattr(recipe.distil, field)}: not with --sizes; {ways}")
    if recipe.multilingual:
        raise RecipeError("multilingual: not with --sizes, which plan no second vocabulary; leave it out")


def _wish(precisions: Sequence[Precision], speed: str | None) -> Wish:
    """Return what is wanted of every student; a size bounds its int8 artifact, where it has one."""
    return Wish(speed=speed, precision="int8" if "int8" in precisions else "fp32")


def _bytes(sizes: Sequence[str], size: str) -> float:
    try:
        return Wish(size=size).bounds.size or 0.0
    except RecipeError as error:
        raise _among(sizes, error) from error


def _among(sizes: Sequence[str], error: RecipeError) -> RecipeError:
    """Return what was said of one size, or of a speed, with all sizes before it."""
    return RecipeError(f"{_stated(sizes)}: {str(error).removeprefix('--size ')}")


def _stated(sizes: Sequence[str]) -> str:
    return f"--sizes {','.join(sizes)}"
