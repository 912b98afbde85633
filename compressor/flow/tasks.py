"""What a recipe is for decides its sections and its flow."""

import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from compressor.core.config import Config, load
from compressor.core.errors import RecipeError
from exporters.tasks import ANSWERING, EMBEDDING


@dataclass(frozen=True)
class TaskFlow:
    """Where a task's recipe and flow stand, as ``module:name``: imported when asked for, none waits for another."""

    recipe_at: str
    """The class of its recipes."""
    flow_at: str
    """Its flow's class."""
    ablation_at: str
    """The function that makes its student with and without each ingredient."""

    @property
    def schema(self) -> type[Config]:
        """Return the class of the task's recipes."""
        return _imported(self.recipe_at)

    def run(self, recipe: Config, base: Path, runs: Path, command: str) -> dict[str, Any]:
        """Walk the way of ``recipe`` into ``runs/<name>``; its paths are relative to ``base``. See ``base.run``."""
        from compressor.flow.base import run

        return run(_imported(self.flow_at).of(recipe, base, runs), command)

    def run_in(self, folder: Path, recipe: Config, command: str) -> dict[str, Any]:
        """Walk the way of ``recipe`` into ``folder``, which its paths are relative to. See ``base.run``."""
        from compressor.artifact.workspace import Workspace
        from compressor.flow.base import run

        return run(_imported(self.flow_at)(recipe, folder, Workspace(folder)), command)

    def ablation(self, recipe: Config, base: Path, runs: Path, command: str) -> dict[str, Any]:
        """Make the student of ``recipe`` with and without each ingredient; the rest is as for ``run``."""
        results: dict[str, Any] = _imported(self.ablation_at)(recipe, base, runs, command)
        return results


FLOWS = {
    EMBEDDING: TaskFlow(
        "compressor.flow.embedding:Recipe",
        "compressor.flow.embedding:EmbeddingFlow",
        "compressor.flow.ablation.embedding:ablation",
    ),
    ANSWERING: TaskFlow(
        "compressor.flow.answering:ReaderRecipe",
        "compressor.flow.answering:ReaderFlow",
        "compressor.flow.ablation.reader:ablation",
    ),
}


def flow_of(recipe: Path) -> TaskFlow:
    """Return the task that a recipe states, by default sentence embedding; RecipeError for one that is not known."""
    try:
        stated = tomllib.loads(recipe.read_text(encoding="utf-8")).get("task", EMBEDDING)
    except (OSError, ValueError, RecursionError):
        stated = EMBEDDING  # reading it as one says what is wrong
    return flow_named(stated, str(recipe))


def flow_named(stated: object, where: str) -> TaskFlow:
    """Return the task of a name; RecipeError, naming ``where`` it stands, for one that is not known."""
    if isinstance(stated, str) and stated in FLOWS:
        return FLOWS[stated]
    raise RecipeError(f"{where}: task = {stated!a:.80}: must be {' or '.join(FLOWS)}")


def compress(
    recipe: Config | Path | str,
    runs: Path | str = "runs",
    base: Path | str = ".",
    *,
    texts: Path | str | None = None,
    out: Path | str | None = None,
    questions: Path | str | None = None,
    **wanted: Any,
) -> dict[str, Any]:
    """Walk the whole flow of a recipe, or of a model without any, from where an earlier call stopped; return results.

    ``recipe``: a ``Recipe``, a ``ReaderRecipe`` or the path of a recipe file, which go into ``runs/<name>``; paths in a
    file are relative to it, those in a recipe that was made in Python to ``base``. Or a model, a sentence-transformers
    folder or a name on the hub, which goes into the folder ``out``, by default ``runs/<model>``, by a recipe that is
    chosen and left there: ``texts`` are a file or a data set, by default docstrings; ``wanted`` are their ``column``
    and ``split``, and fields of ``Wish``, as ``layers=3``. The artifacts lie in the folder's ``artifacts``. Raises
    CompressorError, of one line; GateError where an artifact is below its bar, and then none is handed out.
    """
    if not isinstance(recipe, Config) and not _is_recipe(Path(recipe)):
        to = Path(runs) / Path(recipe).name if out is None else Path(out)
        return _compress_model(str(recipe), texts, to, questions, wanted)
    given = {"texts": texts, "out": out, "questions": questions} | wanted
    if stated := [name for name, value in given.items() if value is not None]:
        raise RecipeError(f"{stated[0]}: goes with a model; a recipe states it itself")
    if isinstance(recipe, Config):
        task = flow_named(str(getattr(recipe, "task", None)), "recipe")
        return task.run(recipe, Path(base), Path(runs), f"compress({recipe.__class__.__name__}(...))")
    path = Path(recipe)
    task = flow_of(path)
    return task.run(load(path, task.schema), path.parent, Path(runs), f"compress({str(recipe)!r})")


def _compress_model(
    model: str, texts: Path | str | None, out: Path, questions: Path | str | None, wanted: dict[str, Any]
) -> dict[str, Any]:
    from compressor.flow.compress.walk import compress_model
    from compressor.flow.compress.wish import Wish
    from compressor.texts.corpus import TextSource

    source = None
    if texts is not None:
        source = TextSource(str(texts), wanted.pop("column", None), wanted.pop("split", None))
    asked = None if questions is None else Path(questions)
    return compress_model(model, source, out, Wish.read(wanted), f"compress({model!r}, ...)", asked)


def _is_recipe(path: Path) -> bool:
    return path.suffix == ".toml" or path.is_file()


def _imported(at: str) -> Any:
    """Return what stands at ``module:name``."""
    module, _, name = at.partition(":")
    return getattr(import_module(module), name)
