"""Commands that measure one model closely: its vectors by size, its share of the peak, and whether figures hold."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.bench import ReaderBench
from benchmarks.over_http.figures import OverHttpFigures
from benchmarks.over_http.measure import OverHttp
from benchmarks.over_http.peers import chosen
from benchmarks.quality.curve import Curve
from benchmarks.quality.sts import Sts
from benchmarks.report.curve_table import print_curve
from benchmarks.report.limits import print_growth, print_limit, print_loadgen, print_over_http
from benchmarks.speed.growth import Grown, Growth, Run
from benchmarks.speed.limit import Limit, Reached
from benchmarks.speed.loadgen import Compared, Loadgen
from compressor.artifact.folder import key_of, sha256, write_json
from compressor.artifact.layout import GRAPH, require_graph
from compressor.artifact.workspace import Key
from compressor.cli.common import (
    ArtifactArgument,
    JsonOption,
    LimitOption,
    NamedArgument,
    OutFileOption,
    OutOption,
    PoolingOption,
    QuestionsOption,
    SpeedTextsOption,
    command_line,
    headed,
    out,
    questions_of,
    teacher_of,
    with_texts,
    writing_stage,
)
from compressor.cli.options import with_options
from compressor.core.errors import ArtifactError, RecipeError, one_line
from compressor.core.files import claim_file
from compressor.core.strict_json import json_text, read_json
from compressor.models.source import DEFAULT, find
from compressor.models.teacher_vectors import made_by
from compressor.texts.corpus import TextSource, read_corpus
from exporters.tasks import EMBEDDING, Item, task_in

_MOST = 10_000  # texts that are read
_Found = Reached | Grown | Compared | OverHttpFigures


@with_options(curve=Curve)
@with_texts
def curve(
    model: NamedArgument,
    out_: OutOption,
    texts: TextSource | None = None,
    limit: LimitOption = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Measure the first components of the vectors as they are, too.")
    ] = False,
    pooling: PoolingOption = None,
    *,
    curve: Curve,
) -> None:
    """Measure quality against the bytes of a vector: principal components of every size, float32, int8, binary."""
    source, corpus = find(model, pooling=pooling), read_corpus(texts, limit)
    with writing_stage(out_, "curve", curve, [source, corpus, made_by("fp32"), Key(key_of(truncate))]) as draft:
        results = curve.run(source, corpus, truncate, command_line(), draft)
    print_curve(results, out)
    out.print(f"figures {out_ / 'curve.json'}   picture {out_ / 'curve.svg'}", soft_wrap=True)


@with_options(limit=Limit)
@with_texts
def profile(
    artifact: ArtifactArgument,
    texts: TextSource | None = None,
    questions: QuestionsOption = None,
    speed_texts: SpeedTextsOption = None,
    out_: OutFileOption = None,
    as_json: JsonOption = False,
    *,
    limit: Limit,
) -> None:
    """Tell what share of this machine's peak an artifact reaches, and where its time goes, at each length."""
    source, items = _items(artifact, texts, questions, speed_texts, out_)
    _tell("limit", limit.measure(artifact, items), source, artifact, out_, print_limit, as_json)


@with_options(loadgen=Loadgen)
@with_texts
def loadgen(
    artifact: ArtifactArgument,
    texts: TextSource | None = None,
    speed_texts: SpeedTextsOption = None,
    out_: OutFileOption = None,
    as_json: JsonOption = False,
    *,
    loadgen: Loadgen,
) -> None:
    """Hold this benchmark's Offline, SingleStream and Server figures against MLCommons LoadGen's."""
    require_graph(artifact)
    if (task := task_in(artifact)).name != EMBEDDING:
        raise ArtifactError(f"{artifact}: is for {task.name}; LoadGen drives encoders")
    source, items = _items(artifact, texts, None, speed_texts, out_)
    _tell("loadgen", loadgen.measure(artifact, items), source, artifact, out_, print_loadgen, as_json)


@with_options(load=OverHttp)
@with_texts
def over_http(
    artifact: ArtifactArgument,
    texts: TextSource | None = None,
    speed_texts: SpeedTextsOption = None,
    out_: OutFileOption = None,
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            help="Measure other servers of the teacher beside it, each in an environment of its own, set up once: all, "
            "or names with commas between.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", help=f"What peers serve: a folder or a name on the hub. [default: {DEFAULT}]"),
    ] = None,
    as_json: JsonOption = False,
    *,
    load: OverHttp,
) -> None:
    """Hold an encoder's figures over HTTP, served by compressor serve, against those in process, and against peers'."""
    require_graph(artifact)
    if (task := task_in(artifact)).name != EMBEDDING:
        raise ArtifactError(f"{artifact}: is for {task.name}; texts are sent to encoders")
    if teacher is not None and peers is None:
        raise RecipeError("--teacher: an option of --peers; the artifact is served as it is")
    wanted = chosen(peers) if peers is not None else []
    found_teacher = teacher_of(teacher or DEFAULT, None) if wanted else None
    source, items = _items(artifact, texts, None, speed_texts, out_)
    found = load.measure(artifact, items, wanted, found_teacher)
    _tell("over_http", found, source, artifact, out_, print_over_http, as_json)


@with_options(growth=Growth)
@with_texts
def growth(
    artifact: ArtifactArgument,
    texts: TextSource | None = None,
    questions: QuestionsOption = None,
    speed_texts: SpeedTextsOption = None,
    out_: OutFileOption = None,
    as_json: JsonOption = False,
    *,
    growth: Growth,
) -> None:
    """Stream ever more texts or questions through an artifact: speed and memory at each count. With --out, goes on
    where it was."""
    source, items = _items(artifact, texts, questions, speed_texts, out_)
    key, unit = growth.key(artifact, items), task_in(artifact).unit

    def keep(runs: Sequence[Run]) -> None:
        if out_ is not None:
            write_json(out_, {"key": key, "growth": {"runs": [run.as_dict(unit) for run in runs]}})

    found = growth.measure(artifact, items, _done(out_, key, unit), keep)
    _tell("growth", found, source, artifact, out_, print_growth, as_json, key=key)


def _done(path: Path | None, key: str, unit: str) -> list[Run]:
    """Return the runs that an earlier command wrote, if they are of the same measurement."""
    if path is None or not path.exists():
        return []
    try:
        earlier = read_json(path)
        return [Run.read(run, unit) for run in earlier["growth"]["runs"]] if earlier.get("key") == key else []
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path}: not readable as earlier figures: {one_line(error)}") from error


def _items(
    artifact: Path, texts: TextSource | None, questions: Path | None, speed_texts: Path | None, out_: Path | None
) -> tuple[str, Sequence[Item]]:
    """Return where the texts or questions are from, and the items.

    Before anything long, ArtifactError for what is no artifact, and StorageError for no file that could be written.
    """
    require_graph(artifact)
    if out_ is not None:
        claim_file(out_)
    asked = questions_of(task_in(artifact), texts, questions)
    if asked is not None:
        if speed_texts is not None:
            raise RecipeError("--speed-texts: an option of encoders; this artifact answers questions")
        return str(questions), ReaderBench(count=_MOST).pick(asked)
    if speed_texts is not None:
        sts = Sts.read(speed_texts)
        return sts.name, sts.texts[:_MOST]
    corpus = read_corpus(texts, None)
    return corpus.source, list(corpus.train[:_MOST])


def _tell(
    name: str,
    found: _Found,
    source: str,
    artifact: Path,
    to: Path | None,
    show: Callable[[Any, Console], None],
    as_json: bool,
    **facts: Any,
) -> None:
    """Write the figures with what they were taken on, and print them."""
    on = {"folder": str(artifact), "graph_sha256": sha256(artifact / GRAPH)}
    results = facts | headed(name) | {"artifact": on, "texts": {"source": source}, name: found.as_dict()}
    if to is not None:
        write_json(to, results)
    print(json_text(results)) if as_json else show(results[name], out)
