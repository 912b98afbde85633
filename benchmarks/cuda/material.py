"""What a run on a card carries along: teacher, graphs at several depths, texts, and vectors to hold theirs against."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.cuda.pack import INDEX
from compressor.artifact.folder import sha256, write_json
from compressor.core.encoder import Vectors
from compressor.core.errors import ArtifactError
from compressor.core.strict_json import read_json

Form = Literal["fp32", "fp16", "fp16-fused"]
"""How a graph is stored; fused: each residual and its normalization are one operator, too."""
FORMS: tuple[Form, ...] = ("fp32", "fp16", "fp16-fused")
TEACHER, WHEELS = "teacher", "wheels"
_STATED, _TEXTS, _REFERENCE = "material.json", "texts.json", "reference.npz"


@dataclass(frozen=True)
class Graph:
    """One graph in a folder of its own."""

    layers: int
    form: Form
    size_bytes: int

    @property
    def folder(self) -> str:
        return f"graphs/{self.layers}-layers-{self.form}"


@dataclass(frozen=True)
class Student:
    """A depth of the teacher, and how it came to it."""

    layers: int
    made: str


@dataclass(frozen=True)
class Stated:
    """What the material says of itself."""

    teacher: str
    weights_sha256: str
    layers: int
    """The teacher's."""
    students: tuple[Student, ...]
    graphs: tuple[Graph, ...]
    texts: str
    """Where the texts are from."""

    @classmethod
    def read(cls, path: Path) -> "Stated":
        """Read it; ArtifactError for anything but what ``write`` wrote."""
        try:
            stated: Any = read_json(path)
            students = tuple(Student(**student) for student in stated.pop("students"))
            graphs = tuple(Graph(**graph) for graph in stated.pop("graphs"))
            return cls(students=students, graphs=graphs, **stated)
        except FileNotFoundError as error:
            raise ArtifactError(f"{path}: not there; python -m benchmarks.cuda join writes it") from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path}: not what prepare writes: {error}") from error


@dataclass(frozen=True)
class Material:
    """A folder of it."""

    folder: Path

    @property
    def teacher(self) -> Path:
        return self.folder / TEACHER

    @property
    def key(self) -> str:
        """Return sha256 of the index that the folder was joined by: it has that of every student, graph and text."""
        index = self.folder / INDEX
        if not index.is_file():
            raise ArtifactError(f"{index}: not there; python -m benchmarks.cuda join writes it")
        return sha256(index)

    @cached_property
    def stated(self) -> Stated:
        return Stated.read(self.folder / _STATED)

    @cached_property
    def checked(self) -> list[str]:
        """Return the texts that the vectors of ``reference`` are of."""
        return list(read_json(self.folder / _TEXTS)["checked"])

    @cached_property
    def timed(self) -> list[str]:
        """Return the texts that speed is measured on, once they are cut to a length."""
        return list(read_json(self.folder / _TEXTS)["timed"])

    def graph(self, layers: int, form: Form) -> Path:
        """Return the folder of a graph."""
        return self.folder / Graph(layers, form, 0).folder

    def reference(self, layers: int) -> Vectors:
        """Return PyTorch's vectors of ``checked`` at a depth, computed in fp32 on a CPU, float32 [texts, dim]."""
        with np.load(self.folder / _REFERENCE, allow_pickle=False) as held:
            return held[str(layers)]

    def write(self, stated: Stated, checked: list[str], timed: list[str], reference: Mapping[int, Vectors]) -> None:
        """Write all but the teacher and the graphs."""
        write_json(self.folder / _STATED, asdict(stated))
        write_json(self.folder / _TEXTS, {"checked": checked, "timed": timed})
        named: dict[str, Any] = {str(layers): vectors for layers, vectors in reference.items()}
        np.savez(self.folder / _REFERENCE, **named)
