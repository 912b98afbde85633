"""Graphs that others exported, where a command takes an artifact: opened in this project's form while it runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from compressor.core.errors import RecipeError
from exporters.foreign.find import Foreign, foreign_in, own_folder

# What opens a graph is imported where one is opened: `compressor verify ARTIFACT` needs none of it.

GraphPoolingOption = Annotated[
    str | None,
    typer.Option(
        "--pooling",
        metavar="mean|cls|last",
        help="Of a graph that others exported, where its folder states none: how tokens are pooled. [default: mean]",
    ),
]
GraphArgument = Annotated[
    Path,
    typer.Argument(help="An artifact, or an ONNX folder or .onnx file that others made.", metavar="ARTIFACT"),
]


def given_graph(path: Path) -> tuple[Path, Foreign | None]:
    """Return the folder that ``path`` names, and the graph in it where others exported it."""
    return own_folder(path) or path, foreign_in(path)


@contextmanager
def own_forms(paths: Sequence[Path], pooling: str | None) -> Iterator[list[Path]]:
    """Give what to open for each path: of a graph that others exported its form here, gone when the body ends.

    RecipeError for a ``pooling`` where there is no such graph.
    """
    from exporters.foreign.adopt import adopted

    found = [given_graph(path) for path in paths]
    if pooling is not None and not any(foreign for _, foreign in found):
        raise RecipeError(f"--pooling {pooling}: an option of graphs that others exported; there is none here")
    with ExitStack() as stack:
        yield [stack.enter_context(adopted(foreign, pooling))[0] if foreign else path for path, foreign in found]


@contextmanager
def fp32_form(path: Path, pooling: str | None) -> Iterator[Path]:
    """Give the folder of a model, or the fp32 artifact of a graph that others exported, gone when the body ends.

    ArtifactError for such a graph that is not fp32, RecipeError for a ``pooling`` where there is none.
    """
    from exporters.foreign.adopt import fp32_artifact

    path, foreign = given_graph(path)
    if foreign is not None:
        with fp32_artifact(foreign, pooling) as folder:
            yield folder
    elif pooling is not None:
        raise RecipeError(f"--pooling {pooling}: an option of graphs that others exported; {path} is none")
    else:
        yield path
