"""One command a stage, each with the options of its configuration."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from compressor.artifact.folder import Draft, key_of, writing
from compressor.artifact.layout import require_graph
from compressor.artifact.workspace import Key, Keyed, checkpoints_of, stage_key
from compressor.cli.common import (
    GraphArgument,
    LimitOption,
    ModelArgument,
    NamedArgument,
    OutOption,
    PoolingOption,
    TeacherOption,
    fp32_form,
    graph_of,
    model_of,
    out,
    with_texts,
    writing_stage,
    written,
)
from compressor.cli.options import with_options
from compressor.core.errors import RecipeError
from compressor.distil.training.embedding import Distil
from compressor.distil.training.together import check_together
from compressor.flow.calibration import sample_of
from compressor.machine.processes import rank
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder, open_model
from compressor.models.source import DEFAULT, find, pooled
from compressor.models.teacher_vectors import dev_of, made_by, training_precision, training_vectors
from compressor.models.torch_int8 import TorchInt8, TorchInt8Encoder
from compressor.texts.corpus import TextSource, read_corpus
from compressor.untrusted.pickles.convert import convert as to_safetensors
from compressor.vectors.pca import Pca
from exporters.graph.export import Export
from exporters.graph.files import require_fp32
from exporters.graph.optimise import Optimise
from exporters.loading import kind_of
from exporters.precision.fp16 import Half
from exporters.precision.int8 import OnnxInt8
from exporters.verify.closeness import Closeness, of_texts
from exporters.verify.conformance import own_conformance


@with_options(distil=Distil)
@with_texts
def distil(
    out_: OutOption,
    teacher: TeacherOption = DEFAULT,
    texts: TextSource | None = None,
    limit: LimitOption = None,
    pooling: PoolingOption = None,
    *,
    distil: Distil,
) -> None:
    """Train a student with some of the teacher's layers to give the teacher's vectors."""
    source, corpus, other = find(teacher, pooling=pooling), read_corpus(texts, limit), distil.find()
    distil.check(open_model(source.folder))
    inputs: list[Keyed] = [source, corpus, made_by("fp32", training_precision()), *([other] if other else [])]
    key = stage_key("distil", distil, inputs)
    kept = checkpoints_of(out_, key)
    check_together(source, corpus, key, kept)
    with TemporaryDirectory() as aside:
        # Of several processes that train together, the first writes.
        to = Path(aside) / "distil" if rank() else out_
        with writing(to, "distil", key, distil.model_dump(mode="json")) as draft:
            vectors = training_vectors(source, corpus)
            folder = other.folder if other else None
            distil.run(source.folder, corpus.train, vectors, kept, draft, dev_of(source, corpus), other=folder)
    if not rank():
        shutil.rmtree(kept, ignore_errors=True)
        written(out_)


@with_options(pca=Pca)
@with_texts
def pca(
    student: ModelArgument,
    out_: OutOption,
    teacher: TeacherOption = DEFAULT,
    texts: TextSource | None = None,
    limit: LimitOption = None,
    pooling: PoolingOption = None,
    *,
    pca: Pca,
) -> None:
    """Reduce a model's vectors to their principal components, as a Dense layer of the model."""
    student, source = pooled(student, pooling), find(teacher, pooling=pooling)
    model, corpus = model_of(student), read_corpus(texts, limit)
    own = student.resolve() == source.folder.resolve()
    earlier = None if own else Projection.load(student)  # of a student whose vectors are not in its teacher's space
    with writing_stage(out_, "pca", pca, [model, source, corpus, made_by("fp32")]) as draft:
        pca.run(student, corpus.train, dev_of(source, corpus), draft, earlier)
    written(out_)


@with_options(int8=OnnxInt8)
@with_texts
def quantize(
    model: Annotated[
        Path,
        typer.Argument(
            help="A sentence-transformers folder, an fp32 artifact, or an fp32 ONNX folder or file that others made."
        ),
    ],
    out_: OutOption,
    texts: TextSource | None = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="For readers instead of texts: a file in SQuAD's format.")
    ] = None,
    limit: LimitOption = None,
    pooling: PoolingOption = None,
    *,
    int8: OnnxInt8,
) -> None:
    """Quantize to int8: a sentence-transformers folder for PyTorch, an fp32 artifact for ONNX Runtime.

    Texts, or questions, are what ranges are calibrated on; the cosine to fp32 is measured on those held out.
    """
    with fp32_form(model, pooling) as folder:
        close = _quantized(folder, out_, texts, questions, limit, int8)
    mean, least = close.cosine_mean, close.cosine_min
    out.print(f"cosine to fp32: mean {mean:.6f}, least {least:.6f}, on {close.count} {close.of}")
    written(out_)


def _quantized(
    model: Path, to: Path, texts: TextSource | None, questions: Path | None, limit: int | None, int8: OnnxInt8
) -> Closeness:
    """Write the int8 form and return how close it is to what it was made of."""
    if kind_of(model) == "onnx":
        require_fp32(require_graph(model), "int8 is made")
        sample = sample_of(model, int8, texts, questions, limit)
        with writing_stage(to, "int8", int8, [graph_of(model), *sample.inputs], model) as draft:
            int8.run(model, draft, sample.batches)
            own_conformance(model, draft.folder, "int8")
            close = sample.compare(draft.folder)
            draft.figures["closeness"] = close.as_dict()
    else:
        stage, source = TorchInt8(), model_of(model)
        _check_torch(model, questions, int8)
        corpus = read_corpus(texts, limit)
        with writing_stage(to, "quantize", stage, [source, corpus]) as draft:
            stage.run(model, draft)
            sides = TorchEncoder.load(model), TorchInt8Encoder.load(draft.folder)
            close = of_texts(*sides, corpus.heldout)
            draft.figures["closeness"] = close.as_dict()
    return close


def _check_torch(model: Path, questions: Path | None, int8: OnnxInt8) -> None:
    """Refuse options that int8 for PyTorch has not."""
    if questions is not None:
        raise RecipeError(f"--questions {questions}: an option of readers' graphs; {model} is quantized for PyTorch")
    for name in OnnxInt8.model_fields:
        if name in int8.model_fields_set:
            option = f"--{name.replace('_', '-')} {getattr(int8, name)}"
            raise RecipeError(f"{option}: an option of ONNX graphs; {model} is quantized for PyTorch; export it first")


@with_options(export=Export, optimise=Optimise)
def export(
    model: NamedArgument, out_: OutOption, pooling: PoolingOption = None, *, export: Export, optimise: Optimise
) -> None:
    """Write a model as one ONNX graph in fp32, fused for ONNX Runtime."""
    source = find(model, pooling=pooling)
    with (
        writing_stage(out_, "optimise", optimise, [Key(stage_key("export", export, [source]))]) as draft,
        TemporaryDirectory() as aside,
    ):
        (plain := Path(aside) / "plain").mkdir()
        export.run(source.folder, Draft(plain))
        optimise.run(plain, draft)
    written(out_)


@with_options(fp16=Half)
def fp16(artifact: GraphArgument, out_: OutOption, pooling: PoolingOption = None, *, fp16: Half) -> None:
    """Convert an fp32 artifact to fp16 for CUDA; inputs and outputs stay as they are."""
    with (
        fp32_form(artifact, pooling) as folder,
        writing_stage(out_, "fp16", fp16, [graph_of(folder)], folder) as draft,
    ):
        fp16.run(folder, draft)
    written(out_)


def convert(
    model: Annotated[Path, typer.Argument(help="A model's folder with pickled weights.", metavar="MODEL")],
    out_: OutOption,
) -> None:
    """Write a model's pickled weights (pytorch_model.bin) as safetensors, each file read in a process apart that
    builds tensors and runs nothing; settings and tokenizer are copied."""
    with writing(out_, "convert", key_of("convert", str(model.resolve()))) as draft:
        made = to_safetensors(model, draft.folder)
    for name in made:
        out.print(f"{out_ / name}", soft_wrap=True)
    written(out_)
