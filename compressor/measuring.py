"""Commands that measure one artifact closely: its limit, its growth, and this harness against another."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.growth import Growth, print_growth
from benchmarks.limit import Limit
from benchmarks.limit_table import print_limit
from benchmarks.loadgen import Loadgen, print_loadgen
from benchmarks.quality import Sts
from compressor.artifact import sha256, write_json
from compressor.cli import ArtifactArgument, TextsOption, command_line, out
from compressor.corpus import read_corpus
from compressor.errors import ArtifactError
from compressor.machine import describe
from compressor.options import with_options
from compressor.strict_json import json_text, read_json
from exporters.layout import GRAPH, require_graph

AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]
OutFile = Annotated[Path | None, typer.Option("--out", help="File to write the figures into, as JSON.")]
Sentences = Annotated[
    Path | None,
    typer.Option("--speed-texts", help="An STS file whose sentences are timed, instead of --texts."),
]
_MOST = 10_000  # texts that are read


@with_options(Limit)
def profile(
    artifact: ArtifactArgument,
    texts: TextsOption = None,
    speed_texts: Sentences = None,
    out_: OutFile = None,
    as_json: AsJson = False,
    *,
    limit: Limit,
) -> None:
    """Tell what share of this machine's peak an artifact reaches, and where its time goes, at each length."""
    source, spoken = _texts(artifact, texts, speed_texts)
    _tell("limit", limit.measure(artifact, spoken), source, artifact, out_, print_limit, as_json)


@with_options(Loadgen)
def loadgen(
    artifact: ArtifactArgument,
    texts: TextsOption = None,
    speed_texts: Sentences = None,
    out_: OutFile = None,
    as_json: AsJson = False,
    *,
    loadgen: Loadgen,
) -> None:
    """Hold this benchmark's Offline, SingleStream and Server figures against MLCommons LoadGen's."""
    source, spoken = _texts(artifact, texts, speed_texts)
    _tell("loadgen", loadgen.measure(artifact, spoken), source, artifact, out_, print_loadgen, as_json)


@with_options(Growth)
def growth(
    artifact: ArtifactArgument,
    texts: TextsOption = None,
    speed_texts: Sentences = None,
    out_: OutFile = None,
    as_json: AsJson = False,
    *,
    growth: Growth,
) -> None:
    """Stream ever more texts through an artifact: speed and memory at each count. With --out, goes on where it was."""
    source, spoken = _texts(artifact, texts, speed_texts)
    key = growth.key(artifact, spoken)

    def keep(runs: Sequence[Any]) -> None:
        if out_ is not None:
            write_json(out_, {"key": key, "growth": {"runs": runs}})

    found = growth.measure(artifact, spoken, _done(out_, key), keep)
    _tell("growth", found, source, artifact, out_, print_growth, as_json, key=key)


def _done(path: Path | None, key: str) -> list[Any]:
    """Return the runs that an earlier command wrote, if they are of the same measurement."""
    if path is None or not path.exists():
        return []
    try:
        earlier = read_json(path)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: not readable as earlier figures: {error}") from error
    return earlier["growth"]["runs"] if earlier.get("key") == key else []


def _texts(artifact: Path, texts: str | None, speed_texts: Path | None) -> tuple[str, list[str]]:
    """Return where the texts are from, and the texts; ArtifactError, before anything long, for what is no artifact."""
    require_graph(artifact)
    if speed_texts is not None:
        sts = Sts.read(speed_texts)
        return sts.name, sts.texts[:_MOST]
    corpus = read_corpus(texts, None)
    return corpus.source, list(corpus.train[:_MOST])


def _tell(
    name: str,
    found: dict[str, Any],
    source: str,
    artifact: Path,
    to: Path | None,
    show: Callable[[Any, Console], None],
    as_json: bool,
    **facts: Any,
) -> None:
    """Write the figures with what they were taken on, and print them."""
    on = {"folder": str(artifact), "graph_sha256": sha256(artifact / GRAPH)}
    results = facts | headed(name) | {"artifact": on, "texts": {"source": source}, name: found}
    if to is not None:
        write_json(to, results)
    print(json_text(results)) if as_json else show(found, out)


def headed(name: str) -> dict[str, Any]:
    """Return the head of results: the command as it was typed, when, and the machine with its packages."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {"name": name, "command": command_line(), "created": created, "environment": describe()}
