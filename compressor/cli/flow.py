"""Commands that walk the whole flow: without a recipe, by one, at several depths; what to pick, and the report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from compressor.cli.common import (
    JsonOption,
    NamedArgument,
    QuestionsOption,
    RayOption,
    RunsOption,
    SetOption,
    WorkersOption,
    command_line,
    out,
    with_texts,
)
from compressor.cli.options import with_options
from compressor.core.errors import RecipeError
from compressor.core.strict_json import json_text
from compressor.flow.compress.wish import Wish
from compressor.machine.processes import rank
from compressor.texts.corpus import TextSource
from exporters.tasks import EMBEDDING


@with_options(wish=Wish)
@with_texts
def compress(
    model: NamedArgument,
    out_: Annotated[Path, typer.Option("--out", help="Folder of the run: artifacts, recipe.toml, report.html.")],
    texts: TextSource | None = None,
    questions: QuestionsOption = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: JsonOption = False,
    *,
    wish: Wish,
) -> None:
    """Compress a model without a recipe: choose one, say what it will do, and do it; goes on where it stopped."""
    from benchmarks.report.page import as_toml, print_table
    from compressor.flow.compress.plan import RECIPE
    from compressor.flow.compress.walk import compress_model

    made = compress_model(model, texts, out_, wish, command_line(), questions, set_ or (), dry_run)
    if as_json:
        print(json_text(made))
    elif dry_run:
        print(as_toml(made))
    else:
        print_table(made, out)
        artifact = out_ / "artifacts" / wish.precision
        out.print(f"artifact {artifact}   recipe {out_ / RECIPE}   report {out_ / 'report.html'}", soft_wrap=True)


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (TOML).")],
    runs: RunsOption = Path("runs"),
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the whole flow of a recipe, from teacher to report; goes on where an earlier run stopped."""
    from benchmarks.report.page import print_table
    from compressor.core.config import load
    from compressor.flow.tasks import flow_of

    task = flow_of(recipe)
    checked: Any = load(recipe, task.schema, set_)
    results = task.run(checked, recipe.parent, runs, command_line())
    if rank():
        return
    if as_json:
        print(json_text(results))
        return
    print_table(results, out)
    folder = runs / checked.name
    out.print(f"artifacts {folder / 'artifacts'}   report {folder / 'report.html'}", soft_wrap=True)


def teach(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (TOML).")],
    runs: RunsOption = Path("runs"),
    set_: SetOption = None,
    threads: Annotated[int | None, typer.Option("--threads", help="Cores of a worker. [default: 1]", min=1)] = None,
    ray: RayOption = None,
    workers: WorkersOption = None,
) -> None:
    """Compute the teacher's vectors that a recipe's run needs, shard by shard, into the cache where it finds them.

    Stopped or killed, the same command goes on with the shards that are missing.
    """
    from compressor.core.config import load
    from compressor.flow.tasks import FLOWS, flow_of
    from compressor.flow.teaching import teach_recipe
    from compressor.machine.cluster import Cluster

    cluster, task = Cluster.asked(ray, workers, threads), flow_of(recipe)
    if threads is not None and cluster is None:
        raise RecipeError(f"threads = {threads}: only with ray; without, PyTorch takes all cores")
    checked: Any = load(recipe, task.schema, set_)
    if task is not FLOWS[EMBEDDING]:
        raise RecipeError(f"{recipe}: task = {checked.task}: no vectors are learnt from; must be {EMBEDDING}")
    taught = teach_recipe(checked, recipe.parent, runs, cluster)
    if rank():
        return
    of = " and ".join(taught.precisions)
    out.print(f"{taught.folder}: the teacher's vectors of {taught.texts:,} texts, computed in {of}", soft_wrap=True)


def tradeoff(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (TOML).")],
    layers: Annotated[
        str | None,
        typer.Option("--layers", help="Counts of layers to keep, commas between them: 6,3,1,0; 0 is a static student."),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            "--sizes",
            help="Instead: most bytes of the whole folder, commas between them, a student planned for each: 8MB,5MB.",
        ),
    ] = None,
    speed: Annotated[
        str | None,
        typer.Option("--speed", help="With --sizes: least throughput that is planned for, as a multiple: 10x."),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="Artifacts to measure and hand out: int8, fp32 or both.")
    ] = "int8",
    runs: RunsOption = Path("runs"),
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a recipe's model with each count of layers, or for each size, measure all in one run, and write the table
    and picture; goes on where it stopped."""
    if (layers is None) == (sizes is None):
        found = "both are given" if layers is not None else "neither is given"
        raise RecipeError(f"--layers or --sizes: {found}; give one of them: --layers 6,3,1,0 or --sizes 13.5MB,5MB")
    if speed is not None and sizes is None:
        raise RecipeError(f"--speed {speed}: is planned for with --sizes; not with --layers")
    from benchmarks.report.page import print_table
    from compressor.core.config import load
    from compressor.flow.embedding import Recipe
    from compressor.flow.sizes import read_sizes, tradeoff_of_sizes
    from compressor.flow.tradeoff import read_counts, read_precisions
    from compressor.flow.tradeoff import tradeoff as make

    precisions, checked = read_precisions(precision), load(recipe, Recipe, set_)
    if sizes is not None:
        results = tradeoff_of_sizes(checked, read_sizes(sizes), recipe.parent, runs, command_line(), precisions, speed)
    else:
        results = make(checked, read_counts(str(layers)), recipe.parent, runs, command_line(), precisions)
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
    size: Annotated[
        str | None, typer.Option("--size", help="Most bytes on disk, of the whole folder: 10MB, 10 MiB.")
    ] = None,
    retrieval: Annotated[
        str | None,
        typer.Option("--retrieval", help="Least share of what the teacher finds, its mean nDCG@10: 0.97 or 97%."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Pick from a trade-off what keeps the bounds, say why, and what is given up; without any, the knee."""
    from benchmarks.tradeoff.recommend import Bounds
    from benchmarks.tradeoff.recommend import recommend as pick

    found = pick(tradeoff, Bounds.read(quality, speed, size, retrieval))
    if as_json:
        print(json_text(found.as_dict()))
        return
    for line in found.lines():
        out.print(line, soft_wrap=True, markup=False)


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a run.")],
) -> None:
    """Write report.html again from a run's results.json, and print its table."""
    from benchmarks.report.page import print_table, write_report
    from compressor.flow.results import Results

    path = folder / "results.json"
    results = Results.read(path)
    values = results.as_dict()
    write_report(values, folder / "report.html")
    print_table(values, out)
    out.print(f"report {folder / 'report.html'}", soft_wrap=True)


def ablation(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (TOML).")],
    runs: RunsOption = Path("runs"),
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what each ingredient of a recipe's distillation is worth: its student made with and without it."""
    from compressor.core.config import load
    from compressor.flow.tasks import flow_of

    task = flow_of(recipe)
    checked: Any = load(recipe, task.schema, set_)
    results = task.ablation(checked, recipe.parent, runs, command_line())
    page = (runs / checked.name / "ablation.md").read_text("utf-8").rstrip()
    print(json_text(results) if as_json else page)
