"""``compressor verify``: is an artifact what it says, is it safe to open, and is it as good as its student."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from compressor.artifact.layout import READING
from compressor.cli.common import (
    GraphArgument,
    JsonOption,
    LimitOption,
    PoolingOption,
    QuestionsOption,
    check_pooling,
    given_graph,
    of_plain,
    out,
    questions_of,
    teacher_of,
    with_texts,
)
from compressor.cli.options import with_each
from compressor.core.errors import RecipeError
from compressor.core.strict_json import JsonObject, json_text
from compressor.models.pooling import Pooling
from compressor.models.source import DEFAULT
from compressor.untrusted.inspection import Finding, inspect
from exporters.foreign.find import Foreign
from exporters.runtime.names import CPU
from exporters.tasks import ANSWERING, EMBEDDING, name_in, task_named
from exporters.verify.check import Check, Verifying, gate, precision_of
from exporters.verify.embedding import Verify
from exporters.verify.reader import Expected, ReaderVerify

if TYPE_CHECKING:
    from compressor.answering.questions.squad import Questions
    from compressor.answering.readers.reader import Reading
    from compressor.texts.corpus import TextSource

StudentOption = Annotated[
    Path | None,
    typer.Option("--student", help="Measure it, too, against the PyTorch model that it was exported from."),
]
TeacherOption = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        help="With --student, the original model: a folder or a name on the hub; of a reader, a question-answering "
        f"one, whose F1 it is held against where given. [default: {DEFAULT}; none of a reader]",
    ),
]
RetrievalOption = Annotated[
    str | None,
    typer.Option(
        "--retrieval",
        help="With --student, collections in BEIR's folder form, commas between: what an encoder finds there is held "
        "against what the teacher finds.",
    ),
]


@with_each("bars", {EMBEDDING: Verify, ANSWERING: ReaderVerify})
@with_texts
def verify(
    artifact: GraphArgument,
    student: StudentOption = None,
    teacher: TeacherOption = None,
    texts: "TextSource | None" = None,
    questions: QuestionsOption = None,
    limit: LimitOption = None,
    retrieval: RetrievalOption = None,
    pooling: PoolingOption = None,
    as_json: JsonOption = False,
    *,
    bars: Callable[[str], Any],
) -> None:
    """Check the files of an artifact or packed view against its manifest, then its graph in a process apart; the first
    fault is exit status 1. With --student, measure it against its student and teacher, a reader on --questions; a
    figure below its bar is, too. A graph that others exported has no manifest; its student is its teacher unless given.
    """
    artifact, foreign = given_graph(artifact)
    if foreign is not None:
        if questions is not None:
            raise RecipeError(f"--questions {questions}: an option of readers; an encoder takes --texts")
        _others(foreign, pooling, student, teacher, texts, limit, bars(EMBEDDING), retrieval, as_json)
        return
    given = {"teacher": teacher, "texts": texts, "questions": questions, "limit": limit, "retrieval": retrieval}
    given |= {"pooling": pooling}
    if student is None and (name := next((name for name, value in given.items() if value is not None), None)):
        raise RecipeError(f"--{name}: an option of --student; without one, files and graph alone are checked")
    found = list[JsonObject]()
    for finding in inspect(artifact):
        found.append(finding.as_dict())
        if not as_json:
            _print_finding(finding)
    task, checks = name_in(artifact), list[Check]()
    own = bars(task)
    _check_providers(own, student is not None)
    if student is not None:
        asked = questions_of(task_named(task), texts, questions)
        if asked is None:
            check_pooling(pooling, [student, teacher or DEFAULT])
            checks = _vectors(artifact, of_plain(student, pooling), teacher, texts, limit, own, retrieval, pooling)
        elif (name := next((name for name in ("retrieval", "pooling") if given[name] is not None), None)) is None:
            checks = _answers(artifact, student, teacher, asked[:limit], own)
        else:
            raise RecipeError(f"--{name} {given[name]}: an option of encoders; this artifact answers questions")
    _judge(found, checks, as_json)


def _judge(found: Sequence[JsonObject], checks: Sequence[Check], as_json: bool) -> None:
    if as_json:
        print(json_text([*found, *(check.as_dict() for check in checks)]))
    else:
        _print_checks(checks)
    gate(checks)


def _check_providers(bars: Verifying, measured: bool) -> None:
    """Look for the providers before any long work; RecipeError for some where nothing is measured."""
    if bars.providers == (CPU,):
        return
    if not measured:
        raise RecipeError("--providers: an option of --student; without one, files and graph alone are checked")
    from exporters.runtime.providers import require_providers

    require_providers(bars.providers)


def _others(
    foreign: Foreign,
    pooling: Pooling | None,
    student: Path | None,
    teacher: str | None,
    texts: "TextSource | None",
    limit: int | None,
    bars: Verify,
    retrieval: str | None,
    as_json: bool,
) -> None:
    """Check a graph that others exported and, where a student or a teacher is given, measure it against them."""
    from exporters.foreign.adopt import adopted
    from exporters.foreign.verify import findings, without_promises

    if (asked := student or teacher) is None and (texts, limit, retrieval) != (None, None, None):
        raise RecipeError("--texts, --limit, --retrieval: options of --teacher; without, the graph alone is checked")
    _check_providers(bars, asked is not None)
    with adopted(foreign, pooling) as (folder, known):
        found = list(findings(foreign, known))
        if not as_json:
            for finding in found:
                _print_finding(finding)
        checks = list[Check]()
        if asked is not None:
            of = of_plain(student, pooling) if student else teacher_of(str(teacher), pooling).folder
            measured = _vectors(folder, of, teacher, texts, limit, bars, retrieval, pooling, known.precision)
            checks = without_promises(measured, bars)
    _judge([finding.as_dict() for finding in found], checks, as_json)


def _vectors(
    artifact: Path,
    student: Path,
    teacher: str | None,
    texts: "TextSource | None",
    limit: int | None,
    bars: Verify,
    retrieval: str | None,
    pooling: Pooling | None,
    precision: str | None = None,
) -> list[Check]:
    """Measure an encoder's artifact; ``precision``: what it is judged as, by default what its graph is."""
    from compressor.models.sentence_model import TorchEncoder
    from compressor.models.teacher_vectors import heldout_of
    from compressor.texts.collections import read_collections
    from compressor.texts.corpus import read_corpus
    from compressor.vectors.retrieval import Searches

    folders = [part.strip() for part in (retrieval or "").split(",") if part.strip()]
    searches = Searches(read_collections(folders, Path(), "test", "--retrieval"))
    bars.check(searches.collections, "--retrieval")
    source, corpus = teacher_of(teacher or DEFAULT, pooling), read_corpus(texts, limit)
    if folders:
        searches.figures(TorchEncoder.load(source.folder))
    heldout = heldout_of(source, corpus)
    name = precision or precision_of(artifact)
    return bars.examine(name, artifact, student, heldout, searches if folders else None)


def _answers(artifact: Path, student: Path, teacher: str | None, asked: "Questions", bars: ReaderVerify) -> list[Check]:
    """Measure a reader's artifact; student and teacher read as it does, but for a teacher that states how it reads."""
    from compressor.answering.readers.reader import read_reading

    reading = read_reading(artifact)
    expected = Expected.of(student, reading, asked, _teacher_f1(teacher, reading, asked) if teacher else None)
    return bars.examine(precision_of(artifact), artifact, expected)


def _teacher_f1(teacher: str, reading: "Reading", asked: "Questions") -> float:
    from compressor.answering.questions.spans import measure
    from compressor.answering.readers.model import TorchReader
    from compressor.answering.readers.source import ReaderTeacher

    folder = ReaderTeacher(model=teacher).find().folder
    own = TorchReader.load(folder, None if (folder / READING).is_file() else reading)
    return measure(asked, own.read(asked), asked.version)["f1"]


def _print_finding(finding: Finding) -> None:
    mark = ("pass", "green") if finding.checked else ("note", "yellow")
    out.print(Text.assemble(mark, f"  {finding.check}: {finding.found}"), soft_wrap=True)


def _print_checks(checks: Sequence[Check]) -> None:
    for check in checks:
        mark = ("pass", "green") if check.passed else ("miss", "red")
        bar = "" if check.bar is None else f"({check.direction} {check.bar:g})"
        line = f"  {check.check}: {check.figure} = {check.value:.6g} {bar}"
        out.print(Text.assemble(mark, line), soft_wrap=True)
