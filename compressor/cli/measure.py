"""Commands that measure: models beside their teacher, vectors by size, and one artifact closely."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.bench import Bench
from benchmarks.peers.run import Beside, chosen_peers
from benchmarks.quality.curve import Curve
from benchmarks.quality.sts import Sts
from benchmarks.report.curve_table import print_curve
from benchmarks.report.limits import print_growth, print_limit, print_loadgen
from benchmarks.speed.growth import Growth
from benchmarks.speed.limit import Limit
from benchmarks.speed.loadgen import Loadgen
from benchmarks.systems import TORCH_CUDA, TORCH_CUDA_FP16, System
from compressor.artifact.folder import key_of, sha256, write_json
from compressor.artifact.layout import GRAPH, Kind, require_graph
from compressor.artifact.workspace import Key
from compressor.cli.common import (
    ArtifactArgument,
    JsonOption,
    LimitOption,
    NamedArgument,
    OutFileOption,
    OutOption,
    SpeedTextsOption,
    TeacherOption,
    TextsOption,
    command_line,
    headed,
    out,
    writing_stage,
)
from compressor.cli.options import with_options
from compressor.core.errors import ArtifactError, RecipeError
from compressor.core.strict_json import json_text, read_json
from compressor.models.source import DEFAULT, find
from compressor.models.teacher_vectors import made_by
from compressor.texts.corpus import read_corpus
from exporters.graph.files import multiplies_int8
from exporters.loading import kind_of
from exporters.runtime.providers import CPU, CUDA

_MOST = 10_000  # texts that are read


@with_options(Curve)
def curve(
    model: NamedArgument,
    out_: OutOption,
    texts: TextsOption = None,
    limit: LimitOption = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Measure the first components of the vectors as they are, too.")
    ] = False,
    *,
    curve: Curve,
) -> None:
    """Measure quality against the bytes of a vector: principal components of every size, float32, int8, binary."""
    source, corpus = find(model), read_corpus(texts, limit)
    with writing_stage(out_, "curve", curve, [source, corpus, made_by("fp32"), Key(key_of(truncate))]) as draft:
        results = curve.run(source, corpus, truncate, command_line(), draft)
    print_curve(results, out)
    out.print(f"figures {out_ / 'curve.json'}   picture {out_ / 'curve.svg'}", soft_wrap=True)


@with_options(Bench)
def bench(
    models: Annotated[list[Path], typer.Argument(help="Artifacts or models to measure.", metavar="MODEL...")],
    teacher: TeacherOption = DEFAULT,
    texts: TextsOption = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            help="Measure other ways to run the teacher beside the models, each in an environment of its own, set up "
            "once: all, or names with commas between.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for peers.json and peers.md. [default with --peers: runs/peers]"),
    ] = None,
    *,
    bench: Bench,
) -> None:
    """Measure models side by side with the teacher: throughput, latency, size, memory, quality."""
    from benchmarks.report.page import print_table

    if to is not None and peers is None:
        raise RecipeError("--out: an option of --peers; without, the figures are printed")
    chosen = chosen_peers(bench, peers) if peers is not None else []
    sts = bench.check(Path())
    source, corpus = find(teacher), read_corpus(texts, limit)
    systems = [
        *_systems("teacher", "teacher, PyTorch fp32 encode", source.folder, "torch", bench),
        *(system for model in models for system in _systems(_label(model), str(model), model, kind_of(model), bench)),
    ]
    origin, timed_texts = bench.pick_texts(Path(), corpus.heldout)
    if peers is not None:
        beside = Beside(bench, source, systems, chosen, timed_texts, origin, corpus.train, sts)
        beside.run(to or Path("runs/peers"), command_line(), as_json, out)
        return
    measured = bench.measure(systems, timed_texts, origin)
    for row, system in zip(measured["systems"], systems, strict=True):
        encoder = system.open()
        row["sts"] = {sts_file.name: sts_file.spearman(encoder, whose=system.name) for sts_file in sts}
    results = headed("bench") | {"bench": measured}
    print(json_text(results)) if as_json else print_table(results, out)


def _systems(name: str, label: str, folder: Path, kind: Kind, bench: Bench) -> list[System]:
    """Return a model's systems, one a provider; on CUDA, PyTorch in fp32 and fp16, and no int8."""
    asked = [(name, label, CPU if kind == "onnx" else "PyTorch CPU")]
    if CUDA in bench.providers and kind == "torch":
        asked.append((f"{name}-cuda", f"{label}, CUDA", TORCH_CUDA))
        asked.append((f"{name}-fp16-cuda", f"{label} in fp16, CUDA", TORCH_CUDA_FP16))
    if CUDA in bench.providers and kind == "onnx" and not multiplies_int8(folder / GRAPH):
        asked.append((f"{name}-cuda", f"{label}, CUDA", CUDA))
    return [
        System(system_name, system_label, kind, str(folder), provider, bench.threads)
        for system_name, system_label, provider in asked
    ]


def _label(model: Path) -> str:
    return "/".join(model.resolve().parts[-2:])


@with_options(Limit)
def profile(
    artifact: ArtifactArgument,
    texts: TextsOption = None,
    speed_texts: SpeedTextsOption = None,
    out_: OutFileOption = None,
    as_json: JsonOption = False,
    *,
    limit: Limit,
) -> None:
    """Tell what share of this machine's peak an artifact reaches, and where its time goes, at each length."""
    source, timed_texts = _texts(artifact, texts, speed_texts)
    _tell("limit", limit.measure(artifact, timed_texts), source, artifact, out_, print_limit, as_json)


@with_options(Loadgen)
def loadgen(
    artifact: ArtifactArgument,
    texts: TextsOption = None,
    speed_texts: SpeedTextsOption = None,
    out_: OutFileOption = None,
    as_json: JsonOption = False,
    *,
    loadgen: Loadgen,
) -> None:
    """Hold this benchmark's Offline, SingleStream and Server figures against MLCommons LoadGen's."""
    source, timed_texts = _texts(artifact, texts, speed_texts)
    _tell("loadgen", loadgen.measure(artifact, timed_texts), source, artifact, out_, print_loadgen, as_json)


@with_options(Growth)
def growth(
    artifact: ArtifactArgument,
    texts: TextsOption = None,
    speed_texts: SpeedTextsOption = None,
    out_: OutFileOption = None,
    as_json: JsonOption = False,
    *,
    growth: Growth,
) -> None:
    """Stream ever more texts through an artifact: speed and memory at each count. With --out, goes on where it was."""
    source, timed_texts = _texts(artifact, texts, speed_texts)
    key = growth.key(artifact, timed_texts)

    def keep(runs: Sequence[Any]) -> None:
        if out_ is not None:
            write_json(out_, {"key": key, "growth": {"runs": runs}})

    found = growth.measure(artifact, timed_texts, _done(out_, key), keep)
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
