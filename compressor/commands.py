"""One command a stage, each with the options of its configuration."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from benchmarks.bench import Bench
from benchmarks.curve import Curve, print_curve
from benchmarks.peers.run import Beside, chosen_peers
from benchmarks.systems import TORCH_CUDA, TORCH_CUDA_FP16, Kind, System, kind_of
from compressor.artifact import Artifact, Draft, is_artifact, key_of, sha256, writing
from compressor.calibration import sample_of
from compressor.cli import ArtifactArgument, Limit, Out, TeacherOption, TextsOption, command_line, out, written
from compressor.corpus import read_corpus
from compressor.distil.embedding import Distil
from compressor.errors import RecipeError
from compressor.measuring import headed
from compressor.options import with_options
from compressor.pca import Pca
from compressor.processes import rank
from compressor.quantize import TorchInt8, TorchInt8Encoder
from compressor.recipe import Config
from compressor.sentence_model import TorchEncoder, open_model
from compressor.stages import Key, Keyed, Model, checkpoints_of, stage_key
from compressor.strict_json import json_text
from compressor.teacher import DEFAULT, check_folder, content_key, find
from compressor.vectors import dev_of, made_by, training_precision, training_vectors
from exporters.closeness import of_texts
from exporters.graph import multiplies_int8, require_fp32
from exporters.half import Half
from exporters.layout import GRAPH, require_graph
from exporters.onnx import Export
from exporters.optimise import Optimise
from exporters.providers import CPU, CUDA
from exporters.quantize import OnnxInt8

ModelArgument = Annotated[Path, typer.Argument(help="A sentence-transformers folder.", metavar="MODEL")]
NamedArgument = Annotated[
    str, typer.Argument(help="A sentence-transformers folder or a name on the hub.", metavar="MODEL")
]


@with_options(Distil)
def distil(
    out_: Out,
    teacher: TeacherOption = DEFAULT,
    texts: TextsOption = None,
    limit: Limit = None,
    *,
    distil: Distil,
) -> None:
    """Train a student with some of the teacher's layers to give the teacher's vectors."""
    source, corpus = find(teacher), read_corpus(texts, limit)
    distil.check(open_model(source.folder))
    inputs: list[Keyed] = [source, corpus, made_by("fp32", training_precision())]
    key = stage_key("distil", distil, inputs)
    kept = checkpoints_of(out_, key)
    with TemporaryDirectory() as aside:
        # Of several processes that train together, the first writes.
        to = Path(aside) / "distil" if rank() else out_
        with writing(to, "distil", key, distil.model_dump(mode="json")) as draft:
            vectors = training_vectors(source, corpus)
            distil.run(source.folder, corpus.train, vectors, kept, draft, dev_of(source, corpus))
    if not rank():
        shutil.rmtree(kept, ignore_errors=True)
        written(out_)


@with_options(Pca)
def pca(
    student: ModelArgument,
    out_: Out,
    teacher: TeacherOption = DEFAULT,
    texts: TextsOption = None,
    limit: Limit = None,
    *,
    pca: Pca,
) -> None:
    """Reduce a model's vectors to their principal components, as a Dense layer of the model."""
    model, source, corpus = _model(student), find(teacher), read_corpus(texts, limit)
    with _writing(out_, "pca", pca, [model, source, corpus, made_by("fp32")]) as draft:
        pca.run(student, corpus.train, dev_of(source, corpus), draft)
    written(out_)


@with_options(Curve)
def curve(
    model: NamedArgument,
    out_: Out,
    texts: TextsOption = None,
    limit: Limit = None,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Measure the first components of the vectors as they are, too.")
    ] = False,
    *,
    curve: Curve,
) -> None:
    """Measure quality against the bytes of a vector: principal components of every size, float32, int8, binary."""
    source, corpus = find(model), read_corpus(texts, limit)
    with _writing(out_, "curve", curve, [source, corpus, made_by("fp32"), Key(key_of(truncate))]) as draft:
        results = curve.run(source, corpus, truncate, command_line(), draft)
    print_curve(results, out)
    out.print(f"figures {out_ / 'curve.json'}   picture {out_ / 'curve.svg'}", soft_wrap=True)


@with_options(OnnxInt8)
def quantize(
    model: Annotated[Path, typer.Argument(help="A sentence-transformers folder or an fp32 artifact.")],
    out_: Out,
    texts: TextsOption = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="For readers instead of texts: a file in SQuAD's format.")
    ] = None,
    limit: Limit = None,
    *,
    onnxint8: OnnxInt8,
) -> None:
    """Quantize to int8: a sentence-transformers folder for PyTorch, an fp32 artifact for ONNX Runtime.

    Texts, or questions, are what ranges are calibrated on; the cosine to fp32 is measured on those held out.
    """
    if kind_of(model) == "onnx":
        require_fp32(require_graph(model), "int8 is made")
        sample = sample_of(model, onnxint8, texts, questions, limit)
        with _writing(out_, "int8", onnxint8, [_graph(model), *sample.inputs]) as draft:
            onnxint8.run(model, draft, sample.batches)
            draft.figures["closeness"] = close = sample.compare(draft.folder)
    else:
        stage, source, corpus = TorchInt8(), _model(model), read_corpus(texts, limit)
        with _writing(out_, "quantize", stage, [source, corpus]) as draft:
            stage.run(model, draft)
            sides = TorchEncoder.load(model), TorchInt8Encoder.load(draft.folder)
            draft.figures["closeness"] = close = of_texts(*sides, corpus.heldout)
    mean, least = close["cosine_mean"], close["cosine_min"]
    out.print(f"cosine to fp32: mean {mean:.6f}, least {least:.6f}, on {close['count']} {close['of']}")
    written(out_)


@with_options(Export, Optimise)
def export(model: NamedArgument, out_: Out, *, export: Export, optimise: Optimise) -> None:
    """Write a model as one ONNX graph in fp32, fused for ONNX Runtime."""
    source = find(model)
    with (
        _writing(out_, "optimise", optimise, [Key(stage_key("export", export, [source]))]) as draft,
        TemporaryDirectory() as aside,
    ):
        (plain := Path(aside) / "plain").mkdir()
        export.run(source.folder, Draft(plain))
        optimise.run(plain, draft)
    written(out_)


@with_options(Half)
def fp16(artifact: ArtifactArgument, out_: Out, *, half: Half) -> None:
    """Convert an fp32 artifact to fp16 for CUDA; inputs and outputs stay as they are."""
    with _writing(out_, "fp16", half, [_graph(artifact)]) as draft:
        half.run(artifact, draft)
    written(out_)


@with_options(Bench)
def bench(
    models: Annotated[list[Path], typer.Argument(help="Artifacts or models to measure.", metavar="MODEL...")],
    teacher: TeacherOption = DEFAULT,
    texts: TextsOption = None,
    limit: Limit = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
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
    from benchmarks.report import print_table

    if to is not None and peers is None:
        raise RecipeError("--out: an option of --peers; without, the figures are printed")
    chosen = chosen_peers(bench, peers) if peers is not None else []
    sts = bench.check(Path())
    source, corpus = find(teacher), read_corpus(texts, limit)
    systems = [
        *_systems("teacher", "teacher, PyTorch fp32 encode", source.folder, "torch", bench),
        *(one for model in models for one in _systems(_label(model), str(model), model, kind_of(model), bench)),
    ]
    origin, spoken = bench.pick_texts(Path(), corpus.heldout)
    if peers is not None:
        beside = Beside(bench, source, systems, chosen, spoken, origin, corpus.train, sts)
        beside.run(to or Path("runs/peers"), command_line(), as_json, out)
        return
    measured = bench.measure(systems, spoken, origin)
    for row, system in zip(measured["systems"], systems, strict=True):
        encoder = system.open()
        row["sts"] = {one.name: one.spearman(encoder, whose=system.name) for one in sts}
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
    return [System(one, told, kind, str(folder), provider, bench.threads) for one, told, provider in asked]


def _label(model: Path) -> str:
    return "/".join(model.resolve().parts[-2:])


def _model(folder: Path) -> Model:
    """Check a sentence-transformers folder and key it by its manifest, or by its content."""
    check_folder(folder)
    key = Artifact.open(folder).key if is_artifact(folder) else content_key(folder)
    return Model(folder, key)


def _graph(folder: Path) -> Model:
    return Model(folder, sha256(require_graph(folder)))


def _writing(to: Path, name: str, config: Config, inputs: list[Keyed]) -> Any:
    return writing(to, name, stage_key(name, config, inputs), config.model_dump(mode="json"))
