"""The commands."""

import json
import os
import shlex
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.command_table import Commands
from compressor.errors import guarded
from compressor.machine import HUGE_PAGES
from compressor.progress import plain_console
from compressor.strict_json import json_text

app = typer.Typer(
    name="compressor",
    cls=Commands,
    help="Distil, reduce, quantize and export transformer encoders to ONNX Runtime, measured against their teacher.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = plain_console()

Out = Annotated[Path, typer.Option("--out", help="Folder to write; new, empty, or an earlier artifact.")]
TextsOption = Annotated[
    str | None,
    typer.Option("--texts", help="Text file (plain or .gz, a text a line) or data set name. [default: docstrings]"),
]
Limit = Annotated[int | None, typer.Option("--limit", help="At most so many texts.", min=1)]
Runs = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="Change a field: section.field=value. May be repeated.")
]
ArtifactArgument = Annotated[Path, typer.Argument(help="An artifact folder with an ONNX graph.", metavar="ARTIFACT")]
TeacherOption = Annotated[str, typer.Option("--teacher", help="The original model: a folder or a name on the hub.")]


def written(folder: Path) -> None:
    """Say what a command has handed out."""
    from compressor.artifact import size_bytes

    out.print(f"{folder}: {size_bytes(folder) / 1e6:.1f} MB", soft_wrap=True)


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (TOML).")],
    runs: Runs = Path("runs"),
    set_: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Walk the whole flow of a recipe, from teacher to report; goes on where an earlier run stopped."""
    from compressor.recipe import load
    from compressor.tasks import task_of

    task = task_of(recipe)
    checked: Any = load(recipe, task.schema, set_)
    results = task.run(checked, recipe.parent, runs, command_line())
    if as_json:
        print(json_text(results))
        return
    task.print_table(results, out)
    folder = runs / checked.name
    out.print(f"artifacts {folder / 'artifacts'}   report {folder / 'report.html'}", soft_wrap=True)


def tradeoff(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (TOML).")],
    layers: Annotated[
        str, typer.Option("--layers", help="Counts of layers to keep, commas between them; 0 is the static student.")
    ] = "6,5,4,3,2,1,0",
    precision: Annotated[
        str, typer.Option("--precision", help="Artifacts to measure and hand out: int8, fp32 or both.")
    ] = "int8",
    runs: Runs = Path("runs"),
    set_: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Make a recipe's model with each count of layers, measure all in one run, and write the table and picture."""
    from benchmarks.report import print_table
    from compressor.pipeline import Recipe
    from compressor.recipe import load
    from compressor.tradeoff import read_counts, read_precisions
    from compressor.tradeoff import tradeoff as make

    counts, precisions, checked = read_counts(layers), read_precisions(precision), load(recipe, Recipe, set_)
    results = make(checked, counts, recipe.parent, runs, command_line(), precisions)
    if as_json:
        print(json_text(results))
        return
    print_table(results, out)
    folder = runs / f"{checked.name}-tradeoff"
    out.print(f"artifacts {folder / 'artifacts'}   table {folder / 'tradeoff.md'}", soft_wrap=True)


def recommend(
    tradeoff: Annotated[Path, typer.Argument(help="The folder of a trade-off, or its tradeoff.json.")],
    quality: Annotated[
        str | None, typer.Option("--quality", help="Least share of the teacher's quality: 0.99 or 99%.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option("--speed", help="Least throughput, as a multiple of the teacher's: 10x.")
    ] = None,
    size: Annotated[str | None, typer.Option("--size", help="Most bytes on disk: 10MB, 10 MiB.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Pick from a trade-off what keeps the bounds, say why, and what is given up; without any, the knee."""
    from benchmarks.recommend import Bounds, told
    from benchmarks.recommend import recommend as pick

    found = pick(tradeoff, Bounds.read(quality, speed, size))
    if as_json:
        print(json_text(found))
        return
    for line in told(found):
        out.print(line, soft_wrap=True, markup=False)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not measure the machine's peak rates.")] = False,
) -> None:
    """Say what this machine can run fast, which precision to choose, and which to avoid and why."""
    from compressor.doctor import print_doctor

    print_doctor(out, as_json, quick)


def inspect(
    path: Annotated[Path, typer.Argument(help="An artifact, or any sentence-transformers folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show what is in an artifact: size, inputs, outputs, operators, hashes, where it came from."""
    from benchmarks.inspect import facts, print_facts

    found = facts(path)
    print(json_text(found)) if as_json else print_facts(found, out)


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
) -> None:
    """Write report.html again from a run's results.json, and print its table."""
    from compressor.errors import ArtifactError
    from compressor.tasks import page_of

    path = folder / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not readable as results: {error}") from error
    write, print_table = page_of(results)
    write(results, folder / "report.html")
    print_table(results, out)
    out.print(f"report {folder / 'report.html'}", soft_wrap=True)


def command_line() -> str:
    """Return the command as it was typed, to be run again."""
    return shlex.join(["compressor", *sys.argv[1:]])


def _show_version(asked: bool) -> None:
    if asked:
        print(f"compressor {version('compressor')}")
        raise typer.Exit


@app.callback()
def options(
    shown: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all commands."""


def main() -> None:
    """Run a command; what this project refuses is one line on stderr and exit status 1."""
    quiet_libraries()
    # Training frees and asks for a gradient of the whole vocabulary in each step: in huge pages, PyTorch's allocator
    # gets its memory from Linux in a tenth of the faults, and a step of one layer takes a tenth less time.
    os.environ.setdefault(HUGE_PAGES, "1")
    sys.exit(guarded(app))


def quiet_libraries() -> None:
    """Keep the libraries' bars and notes from the terminal: what matters to a user is said by this project."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.simplefilter("ignore")
    import logging

    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
