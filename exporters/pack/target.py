"""What every view is made from: the artifact's graph as its inputs and outputs say, and its files."""

import json
import re
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import onnx
from onnx import TensorProto

from compressor.artifact.folder import Artifact, Draft
from compressor.artifact.layout import ANSWERING, EMBEDDING, GRAPH
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, RecipeError
from compressor.core.strict_json import read_json
from exporters.graph.files import load, nodes

Kind = Literal["sentence embeddings", "question answering"]
_OUTPUTS: dict[Kind, set[str]] = {
    "sentence embeddings": set(EMBEDDING),
    "question answering": set(ANSWERING),
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_SMALL = (TensorProto.INT8, TensorProto.UINT8)


class Target(Config):
    """A view for one kind of consumer: its options, and the verb that writes it."""

    @abstractmethod
    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write the view of ``artifact`` into ``draft``, and what it needs into its figures."""


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph: its ONNX element type, and its dimensions, None where they are free."""

    name: str
    dtype: int
    dims: tuple[int | None, ...]


@dataclass(frozen=True)
class Contents:
    """What an artifact's graph takes and gives, and what it is called."""

    artifact: Artifact
    model: onnx.ModelProto
    kind: Kind
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @classmethod
    def read(cls, artifact: Artifact, target: str, kinds: Sequence[Kind] = ("sentence embeddings",)) -> "Contents":
        """Read the graph; ArtifactError if ``target`` cannot take it, in one line that says why."""
        path = artifact.folder / GRAPH
        if GRAPH.as_posix() not in artifact.manifest["files"]:
            raise ArtifactError(f"{artifact.folder}: no {GRAPH} in its manifest; not an artifact with an ONNX graph")
        model = load(path)
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
            raise ArtifactError(f"{path}: keeps weights in other files; {target} takes one file")
        outputs = tuple(map(_tensor, model.graph.output))
        names = {tensor.name for tensor in outputs}
        kind = next((kind for kind, required in _OUTPUTS.items() if required <= names), None)
        if kind is None:
            raise ArtifactError(f"{path}: outputs {', '.join(sorted(names))}; neither an encoder's nor a reader's")
        if kind not in kinds:
            raise ArtifactError(f"{path}: made for {kind}; {target} takes artifacts for {' or '.join(kinds)}")
        return cls(artifact, model, kind, tuple(map(_tensor, model.graph.input)), outputs)

    @property
    def folder(self) -> Path:
        return self.artifact.folder

    @property
    def precision(self) -> Literal["fp32", "int8"]:
        """int8 where a matrix of weights is stored so."""
        stored = self.model.graph.initializer
        return "int8" if any(t.data_type in _SMALL and len(t.dims) > 1 for t in stored) else "fp32"

    @property
    def name(self) -> str:
        """The name of its recipe and precision, or of its folder where no recipe made it."""
        config = self.artifact.manifest.get("config")
        recipe = config.get("recipe") if isinstance(config, dict) else None
        name = str(recipe["name"]) if isinstance(recipe, dict) and recipe.get("name") else self.folder.resolve().name
        return name if name.endswith(self.precision) else f"{name}-{self.precision}"

    @property
    def opset(self) -> int:
        return next(int(opset.version) for opset in self.model.opset_import if opset.domain in ("", "ai.onnx"))

    @property
    def dim(self) -> int:
        """Length of a sentence's vector."""
        dim = next(tensor for tensor in self.outputs if tensor.name == "sentence_embedding").dims[-1]
        if dim is None:
            raise ArtifactError(f"{self.folder / GRAPH}: sentence_embedding has no fixed length")
        return dim

    def json(self, name: str) -> Any:
        """Return what its JSON file ``name`` holds; ArtifactError where it is not there or not JSON."""
        try:
            return read_json(self.folder / name)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{self.folder / name}: not there, or not readable as JSON") from error

    def needs(self, **more: Any) -> dict[str, Any]:
        """Return what runs the view: the artifact's own needs and ``more``."""
        own = self.artifact.figures.get("needs")
        return {"onnxruntime": ">=1.24", **(own if isinstance(own, dict) else {}), "opset": self.opset, **more}


def copy_files(artifact: Artifact, draft: Draft, names: Sequence[str]) -> list[str]:
    """Copy those of ``names`` that the artifact has; return them."""
    copied = [name for name in names if name in artifact.manifest["files"]]
    for name in copied:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ArtifactError(f"{artifact.folder}: its manifest names {name!r}, outside the folder")
        to = draft.folder / path
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.folder / path, to)
    return copied


def copy_graph(artifact: Artifact, to: Path) -> None:
    """Copy the graph as it is."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(artifact.folder / GRAPH, to)


def renamed_states(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Return a copy of an encoder's graph whose token embeddings have another name, and that name."""
    renamed, (old, *_), new = onnx.ModelProto(), EMBEDDING, "last_hidden_state_of_transformer"
    renamed.CopyFrom(model)
    for node in nodes(renamed.graph):
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    return renamed, new


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with Unix line ends on every system."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def check_name(name: str, pattern: str, allowed: str) -> str:
    """Return ``name`` if the consumer takes it; RecipeError that says what is ``allowed``."""
    if not re.fullmatch(pattern, name):
        raise RecipeError(f"name = {json.dumps(name)}: {allowed}; give one by --name")
    return name


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dims = (int(d.dim_value) if d.HasField("dim_value") else None for d in kind.shape.dim)
    return Tensor(value.name, int(kind.elem_type), tuple(dims))
