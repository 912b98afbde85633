"""The commands of question answering."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Questions, read_squad
from compressor.answering.readers.base import base_key
from compressor.answering.readers.reader import Reading, WindowReader
from compressor.answering.readers.source import ReaderTeacher
from compressor.answering.training.augment import Augment, candidates_of
from compressor.answering.training.distil import ReaderDistil
from compressor.answering.training.finetune import Finetune
from compressor.artifact.folder import Draft, write_json, writing
from compressor.artifact.workspace import Key, resumable, stage_key
from compressor.cli.common import JsonOption, OutOption, out, written
from compressor.cli.options import with_options
from compressor.core.files import claim_file
from compressor.core.progress import say
from compressor.core.strict_json import json_text
from compressor.models.source import DEFAULT
from exporters.graph.export_reader import ReaderExport
from exporters.graph.optimise import Optimise
from exporters.loading import open_reader_of, stated_reading

QuestionsArgument = Annotated[
    Path, typer.Argument(help="A file of questions in SQuAD's format, 1.1 or 2.0.", metavar="QUESTIONS")
]


@with_options(finetune=Finetune)
def finetune(
    model: Annotated[str, typer.Argument(help="An encoder (folder or hub name), or a question-answering folder.")],
    questions: QuestionsArgument,
    out_: OutOption,
    *,
    finetune: Finetune,
) -> None:
    """Make a question-answering model of an encoder; of several settings, the best on held-out questions."""
    asked = _read(questions)
    folder = ReaderTeacher(model=model).find().folder
    with resumable(out_, "finetune", finetune, [Key(base_key(folder)), asked]) as (draft, kept):
        finetune.run(folder, asked, kept, draft)
    written(out_)


@with_options(distil=ReaderDistil)
def distil_reader(
    teacher: Annotated[Path, typer.Argument(help="A question-answering folder.", metavar="TEACHER")],
    questions: QuestionsArgument,
    out_: OutOption,
    student: Annotated[
        Path | None, typer.Option("--student", help="Go on from this reader instead of the teacher's own layers.")
    ] = None,
    *,
    distil: ReaderDistil,
) -> None:
    """Make a smaller question-answering model that answers as its teacher does: by labels, logits and inner states."""
    asked = _read(questions)
    inputs = [Key(base_key(folder)) for folder in (teacher, student) if folder is not None]
    with resumable(out_, "distil-reader", distil, [*inputs, asked]) as (draft, kept):
        distil.run(teacher, asked, kept, draft, student)
    written(out_)


@with_options(reading=Reading)
def evaluate(
    reader: Annotated[Path, typer.Argument(help="A question-answering folder, or its artifact.", metavar="READER")],
    questions: QuestionsArgument,
    as_json: JsonOption = False,
    *,
    reading: Reading,
) -> None:
    """Answer the questions of a file and print exact match and F1 as SQuAD's evaluation defines them."""
    asked = _read(questions)
    reading = stated_reading(reader, reading)
    opened = open_reader_of(reader, reading)
    if isinstance(opened, WindowReader):
        opened.cutter.check(asked)
    if asked.silent and reading.no_answer_threshold is None:
        say("questions: some have no answer, and the reader, without a no_answer_threshold, answers every one")
    made = opened.read(asked)
    figures = measure(asked, made, asked.version)
    if as_json:
        print(json_text(figures))
        return
    for name, value in figures.items():
        out.print(f"{name}: {value:g}" if name.endswith("total") else f"{name}: {value:.2f}")


@with_options(export=ReaderExport, optimise=Optimise, reading=Reading)
def export_reader(
    reader: Annotated[Path, typer.Argument(help="A question-answering folder.", metavar="READER")],
    out_: OutOption,
    *,
    export: ReaderExport,
    optimise: Optimise,
    reading: Reading,
) -> None:
    """Write a question-answering model as one ONNX graph in fp32, fused for ONNX Runtime; quantize makes it int8."""
    reading = stated_reading(reader, reading)
    exported = stage_key("export", export, [Key(base_key(reader)), reading])
    key = stage_key("optimise", optimise, [Key(exported)])
    with writing(out_, "optimise", key, optimise.model_dump(mode="json")) as draft, TemporaryDirectory() as aside:
        (plain := Path(aside) / "plain").mkdir()
        export.run(reader, reading, Draft(plain))
        optimise.run(plain, draft)
    written(out_)


@with_options(augment=Augment)
def augment(
    questions: QuestionsArgument,
    out_: Annotated[Path, typer.Option("--out", help="File to write, in SQuAD's format.")],
    model: Annotated[
        str, typer.Option("--model", help="Its vocabulary gives the words: an encoder or question-answering folder.")
    ] = DEFAULT,
    masked: Annotated[
        Path | None, typer.Option("--masked", help="A masked language model's folder, for words of one token.")
    ] = None,
    *,
    augment: Augment,
) -> None:
    """Make more questions: copies of the contexts with words replaced by likely ones, answers left as they are."""
    claim_file(out_)
    asked = _read(questions)
    made = augment.run(asked, candidates_of(ReaderTeacher(model=model).find().folder, masked))
    write_json(out_, made.as_squad())
    out.print(f"{out_}: {len(made):,} questions on {len(made.contexts):,} contexts", soft_wrap=True)


def _read(path: Path) -> Questions:
    asked = read_squad(path)
    say(f"questions: {path}: {len(asked):,} on {len(asked.contexts):,} contexts, version {asked.version}")
    return asked
