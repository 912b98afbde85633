"""What the commands share: options by name, the model or graph that a command is given, and how results begin."""

import inspect
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressor.artifact.folder import Artifact, is_artifact, key_of, sha256, size_bytes, writing
from compressor.artifact.layout import DATA, require_graph
from compressor.artifact.manifest import handed_on
from compressor.artifact.workspace import Keyed, Model, stage_key
from compressor.core.config import Config
from compressor.core.errors import RecipeError
from compressor.core.progress import plain_console
from compressor.machine.describe import describe
from compressor.models.pooling import Pooling, is_plain
from exporters.foreign.find import Foreign, foreign_in, own_folder
from exporters.tasks import EMBEDDING, Task

if TYPE_CHECKING:
    from compressor.answering.questions.squad import Questions
    from compressor.models.source import Source
    from compressor.texts.corpus import TextSource

out = plain_console()

OutOption = Annotated[Path, typer.Option("--out", help="Folder to write; new, empty, or an earlier artifact.")]
_TEXTS: dict[str, str] = {
    "texts": "Text file (a text a line) or table (.csv, .tsv, .jsonl), plain or .gz, .parquet file, or data set name. "
    "[default: docstrings]",
    "column": "Of --texts: the column of a table or data set. [default: the only one of texts, or the only one named "
    "text, sentence, content, passage or the like]",
    "split": "Of --texts: the split of a data set. [default: train]",
}
QuestionsOption = Annotated[
    Path | None, typer.Option("--questions", help="For readers instead of texts: a file in SQuAD's format.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", help="At most so many texts, or questions.", min=1)]
RunsOption = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a field: section.field=value; section.field= leaves it out. May be repeated."),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Compute on a Ray cluster: auto, host:port, or local for one on this machine.",
        metavar="ADDRESS",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", help="Workers on it. [default: as many as there is room for]", min=1)
]
ArtifactArgument = Annotated[Path, typer.Argument(help="An artifact folder with an ONNX graph.", metavar="ARTIFACT")]
GraphArgument = Annotated[
    Path,
    typer.Argument(help="An artifact, or an ONNX folder or .onnx file that others made.", metavar="ARTIFACT"),
]
TeacherOption = Annotated[str, typer.Option("--teacher", help="The original model: a folder or a name on the hub.")]
PoolingOption = Annotated[
    Pooling | None,
    typer.Option(
        "--pooling",
        help="How a text's vector is made of its tokens, of a plain transformer or a graph that others exported, where "
        "their folder does not state it.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
OutFileOption = Annotated[Path | None, typer.Option("--out", help="File to write the figures into, as JSON.")]
SpeedTextsOption = Annotated[
    Path | None,
    typer.Option("--speed-texts", help="An STS file whose sentences are timed, instead of --texts."),
]
ModelArgument = Annotated[
    Path, typer.Argument(help="A sentence-transformers or plain transformers folder.", metavar="MODEL")
]
NamedArgument = Annotated[
    str,
    typer.Argument(help="A sentence-transformers or plain transformers folder, or a name on the hub.", metavar="MODEL"),
]


def with_texts(command: Callable[..., None]) -> Callable[..., None]:
    """Add --texts, --column and --split to a command, which takes them together as ``texts``; None without --texts."""

    def call(**given: Any) -> None:
        source, column, split = (given.pop(name) for name in _TEXTS)
        command(**given, texts=_text_source(source, column, split))

    parameters: list[inspect.Parameter] = []
    for own in inspect.signature(command).parameters.values():
        parameters += [_text_parameter(name) for name in _TEXTS] if own.name == "texts" else [own]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__doc__, call.__name__ = command.__doc__, command.__name__
    return call


def _text_parameter(name: str) -> inspect.Parameter:
    option = typer.Option(f"--{name}", help=_TEXTS[name])
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, place, default=None, annotation=Annotated[str | None, option])


def _text_source(source: str | None, column: str | None, split: str | None) -> "TextSource | None":
    """Return what --texts names; RecipeError for a column or a split of none."""
    for name, value in (("column", column), ("split", split)):
        if source is None and value is not None:
            raise RecipeError(f"--{name} {value}: an option of --texts; give a table or a data set")
    if source is None:
        return None
    from compressor.texts.corpus import TextSource

    return TextSource(source, column, split)


def written(folder: Path) -> None:
    """Say what a command has handed out."""
    out.print(f"{folder}: {size_bytes(folder) / 1e6:.1f} MB", soft_wrap=True)


def command_line() -> str:
    """Return the command as it was typed, to be run again."""
    return shlex.join(["compressor", *sys.argv[1:]])


def headed(name: str) -> dict[str, Any]:
    """Return the head of results: the command as it was typed, when, and the machine with its packages."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"name": name, "command": command_line(), "created": created, "environment": describe()}


def model_of(folder: Path) -> Model:
    """Check a sentence-transformers folder and key it by its manifest, or by its content."""
    from compressor.models.source import check_folder, content_key

    check_folder(folder)
    key = Artifact.open(folder).key if is_artifact(folder) else content_key(folder)
    return Model(folder, key)


def questions_of(task: Task, texts: "TextSource | None", questions: Path | None) -> "Questions | None":
    """Read what a reader is asked; None for an encoder. RecipeError where the other kind of items was given."""
    if task.name == EMBEDDING:
        if questions is not None:
            raise RecipeError(f"--questions {questions}: an option of readers; an encoder takes --texts")
        return None
    if questions is None or texts is not None:
        raise RecipeError("--questions: a reader needs them, and takes no --texts; give a file in SQuAD's format")
    from compressor.answering.questions.squad import read_squad

    return read_squad(questions)


def graph_of(folder: Path) -> Model:
    """Key an artifact by its graph, and by what its weights lie in beside it; ArtifactError where it has none."""
    graph, data = sha256(require_graph(folder)), folder / DATA
    return Model(folder, key_of(graph, sha256(data)) if data.is_file() else graph)


def writing_stage(to: Path, name: str, config: Config, inputs: list[Keyed], of: Path | None = None) -> Any:
    """Open a folder for what the stage ``name`` makes of its configuration and inputs, or of the artifact ``of``."""
    stated = config.model_dump(mode="json") | (handed_on(of) if of else {})
    return writing(to, name, stage_key(name, config, inputs), stated)


def given_graph(path: Path) -> tuple[Path, Foreign | None]:
    """Return the folder that ``path`` names, and the graph in it where others exported it."""
    return own_folder(path) or path, foreign_in(path)


def check_pooling(pooling: Pooling | None, models: Sequence[Path | str]) -> None:
    """Raise RecipeError for a ``pooling`` where every one of several models states its own, or pools in its graph."""
    if pooling is not None and not any(_may_want_pooling(str(model)) for model in models):
        raise RecipeError(
            f"--pooling {pooling}: an option of plain transformers, and of graphs of others; none of these is one"
        )


def _may_want_pooling(model: str) -> bool:
    """Whether a model may be a plain one: of a name on the hub, but the default's, that is seen where it is found."""
    from compressor.models.source import DEFAULT

    path = Path(model)
    on_hub = model != DEFAULT and not path.exists()
    return on_hub or foreign_in(path) is not None or is_plain(path)


@contextmanager
def own_forms(paths: Sequence[Path], pooling: Pooling | None) -> Iterator[list[Path]]:
    """Give what to open for each path: of a graph that others exported its form here, gone when the body ends.

    ``pooling`` is for such graphs and for plain transformers.
    """
    from exporters.foreign.adopt import adopted

    with ExitStack() as stack:
        found = [given_graph(path) for path in paths]
        yield [
            stack.enter_context(adopted(foreign, pooling))[0] if foreign else of_plain(path, pooling)
            for path, foreign in found
        ]


def of_plain(path: Path, pooling: Pooling | None) -> Path:
    """Return what to open for a model beside others: ``pooling`` is for a plain transformer alone."""
    from compressor.models.source import pooled

    return pooled(path, pooling if is_plain(path) else None)


def teacher_of(model: str, pooling: Pooling | None) -> "Source":
    """Find the teacher beside other models: ``pooling`` is for a plain transformer alone."""
    from compressor.models.source import find_beside

    return find_beside(model, pooling)


@contextmanager
def fp32_form(path: Path, pooling: Pooling | None) -> Iterator[Path]:
    """Give the folder of a model, or the fp32 artifact of a graph that others exported, gone when the body ends.

    ArtifactError for such a graph that is not fp32, and for a ``pooling`` other than a model's own.
    """
    from compressor.models.source import pooled
    from exporters.foreign.adopt import fp32_artifact

    path, foreign = given_graph(path)
    check_pooling(pooling, [path] if foreign is None else [])
    if foreign is not None:
        with fp32_artifact(foreign, pooling) as folder:
            yield folder
    else:
        yield pooled(path, pooling)
