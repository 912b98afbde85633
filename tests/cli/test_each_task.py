"""Options of several tasks: each task gets its own, and another's are refused."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from compressor.cli.options import with_each
from compressor.core.config import Config
from compressor.core.errors import RecipeError


class Left(Config):
    same: Literal["a", "b"] = "a"
    """In both the same."""
    count: int = 3
    """Of as many as there are."""
    near: float = 0.5
    """How near vectors are."""
    own: tuple[str, ...] = ()
    """Left's own."""


class Right(Config):
    same: Literal["a", "b"] = "a"
    """In both the same."""
    count: int | None = None
    """Of as many as there are."""
    near: float = 2.0
    """How near logits are."""
    late: bool = False
    """Right's own."""


@with_each("chosen", {"left": Left, "right": Right})
def show(task: Annotated[str, typer.Argument()], *, chosen: Callable[[str], Any]) -> None:
    """Print what a task is given."""
    print(repr(chosen(task)))


def shown(*words: str) -> str:
    app = typer.Typer()
    app.command()(show)
    return CliRunner().invoke(app, list(words), catch_exceptions=False).stdout.strip()


def test_a_task_gets_its_own_options_and_defaults() -> None:
    assert shown("left") == repr(Left())
    assert shown("right") == repr(Right())
    assert shown("left", "--near", "0.25", "--own", "x,y") == repr(Left(near=0.25, own=("x", "y")))
    assert shown("right", "--count", "7", "--late", "true") == repr(Right(count=7, late=True))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("left", "--late", "true"), "--late: an option of right; the model is for left"),
        (("right", "--own", "x"), "--own: an option of left; the model is for right"),
        (("left", "--near", "far"), 'options: near = "far": input should be a valid number'),
    ],
)
def test_what_a_task_has_not_or_cannot_be_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        shown(*words)
    assert str(caught.value) == message


def test_help_tells_the_tasks_apart_where_they_differ() -> None:
    parameters = inspect.signature(show).parameters
    options = {name: one.annotation.__metadata__[0] for name, one in parameters.items() if name != "task"}
    assert {name: option.help for name, option in options.items()} == {
        "same": "In both the same. [default: a]",
        "count": "Of as many as there are. [default: 3 for left, none for right]",
        "near": "left: How near vectors are. [default: 0.5] right: How near logits are. [default: 2.0]",
        "own": "left: Left's own. [default: none]",
        "late": "right: Right's own. [default: false]",
    }
    assert {name: option.metavar for name, option in options.items()} == {
        "same": "a|b",
        "count": "NUMBER",
        "near": "NUMBER",
        "own": "A,B,…",
        "late": "true|false",
    }
