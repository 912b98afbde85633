"""The commands of question answering."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from compressor.answering.augment import Augment, candidates_of
from compressor.answering.base import base_key
from compressor.answering.distil import ReaderDistil
from compressor.answering.finetune import Finetune
from compressor.answering.reader import Reading, WindowReader
from compressor.answering.spans import measure
from compressor.answering.squad import Questions, read_squad
from compressor.answering.teacher import ReaderTeacher
from compressor.artifact import Draft, write_json, writing
from compressor.cli import Changes, Out, Runs, command_line, out, written
from compressor.errors import storage
from compressor.options import with_options
from compressor.progress import say
from compressor.stages import Key, resumable, stage_key
from compressor.strict_json import json_text
from compressor.teacher import DEFAULT
from exporters.optimise import Optimise
from exporters.reader_export import ReaderExport
from exporters.readers import open_reader_of, stated_reading

QuestionsArgument = Annotated[
    Path, typer.Argument(help="A file of questions in SQuAD's format, 1.1 or 2.0.", metavar="QUESTIONS")
]


@with_options(Finetune)
def finetune(
    model: Annotated[str, typer.Argument(help="An encoder (folder or hub name), or a question-answering folder.")],
    questions: QuestionsArgument,
    out_: Out,
    *,
    finetune: Finetune,
) -> None:
    """Make a question-answering model of an encoder; of several settings, the best on held-out questions."""
    asked = _read(questions)
    folder = ReaderTeacher(model=model).find().folder
    with resumable(out_, "finetune", finetune, [Key(base_key(folder)), asked]) as (draft, kept):
        finetune.run(folder, asked, kept, draft)
    written(out_)


@with_options(ReaderDistil)
def distil_reader(
    teacher: Annotated[Path, typer.Argument(help="A question-answering folder.", metavar="TEACHER")],
    questions: QuestionsArgument,
    out_: Out,
    student: Annotated[
        Path | None, typer.Option("--student", help="Go on from this reader instead of the teacher's own layers.")
    ] = None,
    *,
    readerdistil: ReaderDistil,
) -> None:
    """Make a smaller question-answering model that answers as its teacher does: by labels, logits and inner states."""
    asked = _read(questions)
    inputs = [Key(base_key(folder)) for folder in (teacher, student) if folder is not None]
    with resumable(out_, "distil-reader", readerdistil, [*inputs, asked]) as (draft, kept):
        readerdistil.run(teacher, asked, kept, draft, student)
    written(out_)


@with_options(Reading)
def evaluate(
    reader: Annotated[Path, typer.Argument(help="A question-answering folder, or its artifact.", metavar="READER")],
    questions: QuestionsArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
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


@with_options(ReaderExport, Optimise, Reading)
def export_reader(
    reader: Annotated[Path, typer.Argument(help="A question-answering folder.", metavar="READER")],
    out_: Out,
    *,
    readerexport: ReaderExport,
    optimise: Optimise,
    reading: Reading,
) -> None:
    """Write a question-answering model as one ONNX graph in fp32, fused for ONNX Runtime; quantize makes it int8."""
    reading = stated_reading(reader, reading)
    exported = stage_key("export", readerexport, [Key(base_key(reader)), reading])
    key = stage_key("optimise", optimise, [Key(exported)])
    with writing(out_, "optimise", key, optimise.model_dump(mode="json")) as draft, TemporaryDirectory() as aside:
        (plain := Path(aside) / "plain").mkdir()
        readerexport.run(reader, reading, Draft(plain))
        optimise.run(plain, draft)
    written(out_)


@with_options(Augment)
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
    asked = _read(questions)
    made = augment.run(asked, candidates_of(ReaderTeacher(model=model).find().folder, masked))
    with storage(out_):
        out_.parent.mkdir(parents=True, exist_ok=True)
        write_json(out_, made.as_squad())
    out.print(f"{out_}: {len(made):,} questions on {len(made.contexts):,} contexts", soft_wrap=True)


def ablation(
    recipe: Annotated[Path, typer.Argument(help="A recipe file (TOML) for question answering.")],
    runs: Runs = Path("runs"),
    set_: Changes = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Say what each ingredient of a recipe's distillation is worth: its student made with and without it."""
    from benchmarks.answers import ablation as table
    from compressor.answering.ablation import ablation as make
    from compressor.answering.pipeline import ReaderRecipe
    from compressor.recipe import load

    checked = load(recipe, ReaderRecipe, set_)
    results = make(checked, recipe.parent, runs, command_line())
    print(json_text(results) if as_json else table(results))


def _read(path: Path) -> Questions:
    asked = read_squad(path)
    say(f"questions: {path}: {len(asked):,} on {len(asked.contexts):,} contexts, version {asked.version}")
    return asked
