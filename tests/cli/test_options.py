"""A command has an option for every field of its configurations, and takes each under the name that is written."""

import inspect
from typing import Any

import pytest

from compressor.cli.common import with_texts
from compressor.cli.options import with_options
from compressor.cli.table import COMMANDS, HELP
from compressor.core.config import Config
from compressor.core.errors import RecipeError
from compressor.core.strict_json import read_json
from compressor.texts.corpus import TextSource


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


@with_options(size=Width)
@with_texts
def reading(taken: dict[str, Any], texts: TextSource | None = None, limit: int | None = None, *, size: Width) -> None:
    """Take texts between other options."""
    taken.update(texts=texts, limit=limit, size=size)


def test_texts_come_with_their_column_and_split() -> None:
    assert list(inspect.signature(reading).parameters) == ["taken", "texts", "column", "split", "limit", "width"]
    given = given_to(reading, texts="org/name", column="a", split="dev", limit=3)
    assert given == {"texts": TextSource("org/name", "a", "dev"), "limit": 3, "size": Width()}
    assert given_to(reading, texts="t.txt", column=None, split=None)["texts"] == TextSource("t.txt", None, None)
    assert given_to(reading, texts=None, column=None, split=None)["texts"] is None


@pytest.mark.parametrize("name", ["column", "split"])
def test_a_column_or_a_split_of_no_texts_is_refused(name: str) -> None:
    none = {"texts": None, "column": None, "split": None}
    with pytest.raises(RecipeError, match=rf"^--{name} a: an option of --texts; give a table or a data set$"):
        given_to(reading, **none | {name: "a"})


def test_every_command_that_takes_texts_takes_a_column_and_a_split() -> None:
    flags = {name: " ".join(row[0] for row in read_json(HELP)[name]["options"]) for name in COMMANDS}
    taking = [name for name, shown in flags.items() if "--texts" in shown]
    assert {"distil", "pca", "quantize", "optimise", "bench", "curve", "profile", "verify"} < set(taking)
    for name in taking:
        assert "--column <str>" in flags[name]
        assert "--split <str>" in flags[name]
