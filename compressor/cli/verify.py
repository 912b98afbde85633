"""``compressor verify``: is an artifact what it says, is it safe to open, and is it as good as its student."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from compressor.cli.common import ArtifactArgument, JsonOption, LimitOption, TeacherOption, TextsOption, out
from compressor.cli.options import with_options
from compressor.core.strict_json import json_text
from compressor.models.source import DEFAULT, find
from compressor.untrusted.inspection import inspect
from exporters.verify.check import gate, precision_of
from exporters.verify.embedding import Verify

StudentOption = Annotated[
    Path | None,
    typer.Option("--student", help="Measure it, too, against the PyTorch model that it was exported from."),
]


@with_options(Verify)
def verify(
    artifact: ArtifactArgument,
    student: StudentOption = None,
    teacher: TeacherOption = DEFAULT,
    texts: TextsOption = None,
    limit: LimitOption = None,
    as_json: JsonOption = False,
    *,
    verify: Verify,
) -> None:
    """Check the files of an artifact or packed view against its manifest, then its graph in a process apart; the first
    fault is exit status 1. With --student, measure it against its student and teacher; a figure below its bar is, too.
    """
    found: list[dict[str, Any]] = []
    for finding in inspect(artifact):
        found.append(finding.as_dict())
        if not as_json:
            mark = ("pass", "green") if finding.checked else ("note", "yellow")
            out.print(Text.assemble(mark, f"  {finding.check}: {finding.found}"), soft_wrap=True)
    checks = _measured(artifact, student, teacher, texts, limit, verify) if student else []
    if as_json:
        print(json_text(found + checks))
    else:
        _print_checks(checks)
    gate(checks)


def _measured(
    artifact: Path, student: Path, teacher: str, texts: str | None, limit: int | None, verify: Verify
) -> list[dict[str, Any]]:
    from compressor.models.teacher_vectors import heldout_of
    from compressor.texts.corpus import read_corpus

    source, corpus = find(teacher), read_corpus(texts, limit)
    heldout = heldout_of(source, corpus)
    return [check.as_dict() for check in verify.examine(precision_of(artifact), artifact, student, heldout)]


def _print_checks(checks: list[dict[str, Any]]) -> None:
    for check in checks:
        mark = ("pass", "green") if check["passed"] else ("miss", "red")
        bar = "" if check["bar"] is None else f"({check['direction']} {check['bar']:g})"
        line = f"  {check['check']}: {check['figure']} = {check['value']:.6g} {bar}"
        out.print(Text.assemble(mark, line), soft_wrap=True)
