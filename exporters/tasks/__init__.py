"""What a model is for: one ``Task`` for each, by the name that recipes and results state it under."""

from importlib import import_module
from pathlib import Path

from compressor.core.errors import RecipeError
from exporters.tasks.base import Item, Runner, Task

EMBEDDING, ANSWERING = "sentence-embedding", "question-answering"
_TASKS = {  # imported when asked for; the whole names, for a stage's key finds the code that it runs by them
    EMBEDDING: ("exporters.tasks.embedding", "Embedding"),
    ANSWERING: ("exporters.tasks.answering", "Answering"),
}
__all__ = ["ANSWERING", "EMBEDDING", "Item", "Runner", "Task", "name_in", "task_in", "task_named"]


def task_named(name: object, where: str = "task") -> Task:
    """Return the task of a name; RecipeError, naming ``where`` it stands, for one that is not known."""
    if not isinstance(name, str) or name not in _TASKS:
        raise RecipeError(f"{where} = {name!a:.80}: must be {' or '.join(_TASKS)}")
    module, kind = _TASKS[name]
    task: Task = getattr(import_module(module), kind)()
    return task


def task_in(folder: Path) -> Task:
    """Return the task of the model or artifact in ``folder``."""
    return task_named(name_in(folder))


def name_in(folder: Path) -> str:
    """Return the name of the task of the model or artifact in ``folder``; nothing of it is opened."""
    from exporters.loading import is_reader

    return ANSWERING if is_reader(folder) else EMBEDDING
