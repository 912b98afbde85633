"""``compressor bench``: models side by side with their teacher, whatever they are for."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.bench import Bench, ReaderBench, Speed
from benchmarks.peers.run import Beside, chosen_peers
from benchmarks.quality.story import parameters
from benchmarks.quality.sts import Sts
from benchmarks.report.limits import print_lengths
from benchmarks.results import BenchFigures, Quality
from benchmarks.speed.lengths import Lengths
from benchmarks.systems import System, description, ending, taking_parts
from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Questions
from compressor.answering.readers.base import is_encoder
from compressor.answering.readers.source import ReaderTeacher
from compressor.artifact.folder import write_json
from compressor.artifact.layout import GRAPH, Kind
from compressor.cli.common import (
    JsonOption,
    LimitOption,
    OutFileOption,
    PoolingOption,
    QuestionsOption,
    check_pooling,
    command_line,
    given_graph,
    headed,
    out,
    own_forms,
    questions_of,
    teacher_of,
    with_texts,
)
from compressor.cli.options import with_each, with_options
from compressor.core.errors import RecipeError
from compressor.core.files import claim_file
from compressor.core.strict_json import json_text
from compressor.models.pooling import Pooling
from compressor.models.projection import Projection
from compressor.models.source import DEFAULT
from compressor.texts.corpus import Corpus, TextSource, read_corpus
from compressor.vectors.retrieval import Searches
from exporters.graph.files import multiplies_int8
from exporters.loading import kind_of
from exporters.runtime.providers import CPU, CUDA, TENSORRT
from exporters.tasks import ANSWERING, EMBEDDING, Task, task_in, task_named
from exporters.tasks.base import TORCH_CPU, TORCH_CUDA, TORCH_CUDA_FP16

_TeacherOption = Annotated[
    str | None,
    typer.Option("--teacher", help=f"The original model: a folder or a name on the hub. [default: {DEFAULT}]"),
]
_TIMED = 1000  # texts that long ones are put together of


@with_each("bench", {EMBEDDING: Bench, ANSWERING: ReaderBench})
@with_texts
def bench(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Artifacts, models, or ONNX folders or files that others made, all for one task.", metavar="MODEL..."
        ),
    ],
    teacher: _TeacherOption = None,
    texts: TextSource | None = None,
    questions: QuestionsOption = None,
    limit: LimitOption = None,
    pooling: PoolingOption = None,
    as_json: JsonOption = False,
    peers: Annotated[
        str | None,
        typer.Option(
            "--peers",
            help="Measure other ways to run the teacher beside the models, each in an environment of its own, set up "
            "once: all, or names with commas between. Encoders only.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for peers.json and peers.md. [default with --peers: runs/peers]"),
    ] = None,
    *,
    bench: Callable[[str], Any],
) -> None:
    """Measure models side by side with the teacher: throughput, latency, size, memory, quality."""
    if to is not None and peers is None:
        raise RecipeError("--out: an option of --peers; without, the figures are printed")
    task = _task_of(models)
    config = bench(task.name)
    asked = questions_of(task, texts, questions)
    if asked is not None:
        if (option := "--peers" if peers is not None else "--pooling" if pooling is not None else None) is not None:
            raise RecipeError(f"{option}: an option of encoders; these models answer questions")
        readers(models, teacher, asked[:limit], str(questions), config, as_json)
        return
    name = teacher or DEFAULT
    check_pooling(pooling, [*models, name])
    with own_forms(models, pooling) as folders:
        read = partial(read_corpus, texts, limit)
        encoders(models, folders, name, read, config, as_json, peers, to, pooling)


def _task_of(models: Sequence[Path]) -> Task:
    """Return the task of all models; RecipeError where they have several."""
    given = {model: given_graph(model) for model in models}
    tasks = {
        str(model): task_named(EMBEDDING) if foreign is not None else task_in(folder)
        for model, (folder, foreign) in given.items()
    }
    if len({task.name for task in tasks.values()}) > 1:
        stated = ", ".join(f"{model} is for {task.name}" for model, task in tasks.items())
        raise RecipeError(f"models: {stated}; all must be for one task")
    return next(iter(tasks.values()))


def encoders(
    models: Sequence[Path],
    folders: Sequence[Path],
    teacher: str,
    read: Callable[[], Corpus],
    bench: Bench,
    as_json: bool,
    peers: str | None,
    to: Path | None,
    pooling: Pooling | None = None,
) -> None:
    """Measure encoders, with peers or alone; ``read`` gives the texts, once all else is known to be there.

    What is opened for the ``models`` lies in ``folders``.
    """
    chosen = chosen_peers(bench, peers) if peers is not None else []
    sts, source, collections = bench.check(Path()), teacher_of(teacher, pooling), bench.collections(Path())
    task, corpus = task_named(EMBEDDING), read()
    systems = _beside_teacher(task, source.folder, models, folders, bench)
    origin, timed_texts = bench.pick_texts(Path(), corpus.heldout)
    if peers is not None:
        beside = Beside(bench, source, systems, chosen, timed_texts, origin, corpus.train, sts, collections)
        beside.run(to or Path("runs/peers"), command_line(), as_json, out)
        return
    measured = bench.measure(systems, timed_texts, origin)
    searches = Searches(collections)
    _show(task, measured.with_quality(_vectors(system, searches, sts) for system in systems), as_json)


def _vectors(system: System, searches: Searches, files: Sequence[Sts]) -> Quality:
    encoder = system.encoder()
    retrieval = searches.figures(encoder, Projection.load(Path(system.folder)))
    return Quality(sts={sts.name: sts.spearman(encoder, whose=system.name) for sts in files}, retrieval=retrieval)


def readers(
    models: Sequence[Path], teacher: str | None, asked: Questions, origin: str, bench: ReaderBench, as_json: bool
) -> None:
    """Measure readers, each read as it was made to."""
    if teacher is None:
        raise RecipeError("--teacher: readers need it; give a question-answering folder")
    bench.check_providers()
    task, source = task_named(ANSWERING), ReaderTeacher(model=teacher).find().folder
    if is_encoder(source):
        raise RecipeError(f"--teacher {teacher}: an encoder; give a question-answering folder")
    systems = _beside_teacher(task, source, models, models, bench)
    measured = bench.measure(systems, bench.pick(asked), origin)
    _show(task, measured.with_quality(_answers(system, asked) for system in systems), as_json)


def _answers(system: System, asked: Questions) -> Quality:
    opened: Any = system.open()
    answers = measure(asked, opened.reader.read(asked, 32), asked.version)
    return Quality(answers=answers, parameters=parameters(Path(system.folder)))


@with_options(measured=Lengths)
@with_texts
def lengths(
    models: Annotated[
        list[Path],
        typer.Argument(help="Artifacts, models, or ONNX folders or files that others made.", metavar="MODEL..."),
    ],
    teacher: _TeacherOption = None,
    texts: TextSource | None = None,
    pooling: PoolingOption = None,
    out_: OutFileOption = None,
    as_json: JsonOption = False,
    *,
    measured: Lengths,
) -> None:
    """Measure time and memory of one text at a time by its length, beside the teacher."""
    name = teacher or DEFAULT
    if out_ is not None:
        claim_file(out_)
    check_pooling(pooling, [*models, name])
    with own_forms(models, pooling) as folders:
        if (task := _task_of(models)).name != EMBEDDING:
            raise RecipeError(f"models: {models[0]} is for {task.name}; must be encoders")
        source, corpus = teacher_of(name, pooling), read_corpus(texts, None)
        systems = _beside_teacher(task, source.folder, models, folders, Bench(threads=measured.threads))
        limit = min(system.open().max_length for system in systems)
        found = measured.measure(systems, corpus.train[:_TIMED], limit)
        results = headed("lengths") | {"texts": {"source": corpus.source}, "lengths": found.as_dict()}
    if out_ is not None:
        write_json(out_, results)
    print(json_text(results)) if as_json else print_lengths(results["lengths"], out)


def _show(task: Task, measured: BenchFigures, as_json: bool) -> None:
    from benchmarks.report.page import print_table

    results = headed("bench") | {"task": task.name, "bench": measured.as_dict()}
    print(json_text(results)) if as_json else print_table(results, out)


def _beside_teacher(
    task: Task, teacher: Path, models: Sequence[Path], folders: Sequence[Path], bench: Speed
) -> list[System]:
    """Return the systems of the teacher and of each model, which is opened in its folder."""
    label = f"teacher, {task.call}"
    own = [
        _systems(task, name, str(model), folder, kind_of(folder), bench)
        for name, model, folder in zip(_labels(models), models, folders, strict=True)
    ]
    return [*_systems(task, "teacher", label, teacher, "torch", bench), *itertools.chain.from_iterable(own)]


def _systems(task: Task, name: str, label: str, folder: Path, kind: Kind, bench: Speed) -> list[System]:
    """Return a model's systems, one a provider; on CUDA, PyTorch in fp32 and fp16, and on a card no int8."""
    asked = [(name, label, CPU if kind == "onnx" else TORCH_CPU)]
    if CUDA in bench.providers and kind == "torch":
        asked.append((f"{name}-cuda", f"{label}, CUDA", TORCH_CUDA))
        asked.append((f"{name}-fp16-cuda", f"{label} in fp16, CUDA", TORCH_CUDA_FP16))
    devices = [(CUDA, "cuda", "CUDA"), (TENSORRT, "tensorrt", "TensorRT")]
    wanted = [device for device in devices if device[0] in bench.providers]
    if wanted and kind == "onnx" and not multiplies_int8(folder / GRAPH):
        asked += [(f"{name}-{end}", f"{label}, {said}", provider) for provider, end, said in wanted]
    if kind == "onnx":
        others = [(ending(provider), description(provider), provider) for provider in taking_parts(bench.providers)]
        asked += [(f"{name}-{end}", f"{label}, {said}", provider) for end, said, provider in others]
    return [
        System(system_name, system_label, kind, str(folder), provider, bench.threads, task=task.name)
        for system_name, system_label, provider in asked
    ]


def _labels(models: Sequence[Path]) -> list[str]:
    """Return what each model is called: the last parts of its path, more of them where others end alike."""
    places, counts = [_place(model) for model in models], [3 if model.is_file() else 2 for model in models]
    while True:
        named = [place[-count:] for place, count in zip(places, counts, strict=True)]
        alike = [
            number
            for number, (name, place) in enumerate(zip(named, places, strict=True))
            if len(name) < len(place) and any(name == n and place != p for n, p in zip(named, places, strict=True))
        ]
        if not alike:
            return ["/".join(name) for name in named]
        for number in alike:
            counts[number] += 1


def _place(model: Path) -> tuple[str, ...]:
    """Return the parts of a model's path; a graph, which may be a link into the hub's cache, is called by its place."""
    whole = model.parent.resolve() / model.name if model.is_file() else model.resolve()
    return whole.relative_to(whole.anchor).parts
