"""A command has an option for every field of its configurations, and takes each under the name that is written."""

import inspect
from typing import Any

import pytest

from compressor.cli.options import with_options
from compressor.core.config import Config
from compressor.core.errors import RecipeError


class Width(Config):
    """How wide."""

    width: int = 3
    """Units."""


class Depth(Config):
    """How deep."""

    depth: int = 2
    """Layers."""
    layers: tuple[int, ...] = (0, 1)
    """Which."""


def given_to(command: Any, **options: Any) -> dict[str, Any]:
    """Return what a command was called with."""
    taken: dict[str, Any] = {}
    command(taken=taken, **options)
    return taken


@with_options(size=Width, down=Depth)
def named(taken: dict[str, Any], *, size: Width, down: Depth) -> None:
    """Take both under other names than their classes'."""
    taken.update(size=size, down=down)


def test_a_configuration_comes_under_its_written_name() -> None:
    assert given_to(named) == {"size": Width(), "down": Depth()}
    made = given_to(named, width="5", layers="2,4", depth=None)
    assert made == {"size": Width(width=5), "down": Depth(layers=(2, 4))}


def test_the_options_are_the_fields_in_their_order() -> None:
    assert list(inspect.signature(named).parameters) == ["taken", "width", "depth", "layers"]
    option = inspect.signature(named).parameters["layers"].annotation.__metadata__[0]
    assert (option.default, option.help) == ("--layers", "Which. [default: 0,1]")


def test_a_value_that_does_not_fit_names_its_field() -> None:
    with pytest.raises(RecipeError, match=r'^options: width = "wide": input should be a valid integer'):
        given_to(named, width="wide")
