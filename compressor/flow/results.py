"""What a run measured, with types: what ``results.json`` holds, written and read again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from compressor.artifact.folder import write_json
from compressor.core.errors import ArtifactError
from compressor.core.strict_json import JsonObject, read_json
from exporters.verify.check import Check


@dataclass(frozen=True)
class TeacherFacts:
    """The model that was compressed."""

    name: str
    source: str
    """Where it was found."""
    weights_sha256: str
    more: Mapping[str, Any] = field(default_factory=dict)
    """What its task says of it besides."""

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return {"name": self.name, "source": self.source, "weights_sha256": self.weights_sha256, **self.more}


@dataclass(frozen=True, kw_only=True)
class Head:
    """What the results of every task begin with."""

    name: str
    task: str = "sentence-embedding"
    """Runs of before there were several do not state it."""
    created: str
    """When, in UTC to the second, as ISO 8601 has it."""
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    """The machine that it was measured on."""
    teacher: TeacherFacts

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        own = {name: getattr(self, name) for name in ("name", "task", "created", "recipe", "environment")}
        return own | {"teacher": self.teacher.as_dict()}


@dataclass(frozen=True)
class Measured:
    """What a task measured of its stages."""

    data: str
    """What was learnt and judged by is called: ``texts``."""
    facts: Mapping[str, Any]
    """What the data is."""
    story: Sequence[Mapping[str, Any]]
    """Quality and size, a row a stage, the teacher first; each with its name as ``stage``."""
    bench: Mapping[str, Any]
    """Speed: ``systems``, the teacher first, and how they were measured."""


@dataclass(frozen=True)
class Results:
    """A finished run."""

    head: Head
    measured: Measured
    command: str
    seconds: float
    """Of this command; what an earlier one finished is not made again."""
    verify: Sequence[Check]
    graphs: Mapping[str, Mapping[str, int]]
    """Operators by name, of fp32 and int8."""
    own: Mapping[str, Any] = field(default_factory=dict)
    """What only this task has."""

    def as_dict(self) -> JsonObject:
        """Return what ``results.json`` holds, in its order."""
        measured = self.measured
        return {
            **self.head.as_dict(),
            measured.data: measured.facts,
            "story": measured.story,
            "bench": measured.bench,
            "command": self.command,
            "seconds": self.seconds,
            "verify": [check.as_dict() for check in self.verify],
            **self.own,
            "graphs": self.graphs,
        }

    def write(self, path: Path) -> None:
        """Write them to ``path``; CompressorError for a figure that is no number."""
        write_json(path, self.as_dict())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what ``write`` wrote; ArtifactError, of one line, for anything else."""
        try:
            return TypeAdapter(cls).validate_python(_parts(read_json(path)))
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in fault["loc"] if part not in ("head", "measured"))
            raise ArtifactError(f"{path}: not readable as results: {place}: {fault['msg']}") from error
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{path}: not readable as results: {error}") from error


def _parts(stated: Any) -> dict[str, Any]:
    """Return the parts of what ``results.json`` holds; ValueError where it is nothing of the kind.

    The data is what follows the head; what else is not known is the task's own.
    """
    if not isinstance(stated, dict):
        raise ValueError("no object")
    left, head = dict(stated), [known.name for known in fields(Head)]
    parts: dict[str, Any] = {"head": {name: left.pop(name) for name in head if name in left}}
    if isinstance(teacher := parts["head"].get("teacher"), dict):
        known = {name: value for name, value in teacher.items() if name in ("name", "source", "weights_sha256")}
        parts["head"]["teacher"] = known | {"more": {n: value for n, value in teacher.items() if n not in known}}
    data = next(iter(left), "")
    parts["measured"] = {"data": data, "facts": left.pop(data, None)}
    parts["measured"] |= {name: left.pop(name) for name in ("story", "bench") if name in left}
    parts |= {name: left.pop(name) for name in ("command", "seconds", "verify", "graphs") if name in left}
    return parts | {"own": left}
