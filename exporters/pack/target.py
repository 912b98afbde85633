"""What every view is made from: the artifact's graph as its inputs and outputs say, and its files."""

import json
import re
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

import onnx
from onnx import TensorProto

from compressor.answering.readers.reader import Reading, read_reading
from compressor.artifact.folder import Artifact, Draft
from compressor.artifact.layout import ANSWERING, EMBEDDING, GRAPH, READING
from compressor.artifact.prompts import kept_prompts
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, RecipeError
from compressor.core.strict_json import read_json
from compressor.untrusted.graph import precision_of
from exporters.graph.files import load, nodes

TaskName = Literal["sentence-embedding", "question-answering"]
TASKS: tuple[TaskName, ...] = get_args(TaskName)
_OUTPUTS: dict[TaskName, set[str]] = {"sentence-embedding": set(EMBEDDING), "question-answering": set(ANSWERING)}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", READING)
"""What texts are made into token ids by; of a reader, how its windows are cut, too."""


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
    task: TaskName
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    reading: Reading | None
    """How a reader's windows are cut and its answers chosen."""

    @classmethod
    def read(cls, artifact: Artifact, target: str, tasks: Sequence[TaskName] = ("sentence-embedding",)) -> "Contents":
        """Read the graph; ArtifactError if ``target`` cannot take it, in one line that says why."""
        path = artifact.folder / GRAPH
        if GRAPH.as_posix() not in artifact.manifest["files"]:
            raise ArtifactError(f"{artifact.folder}: no {GRAPH} in its manifest; not an artifact with an ONNX graph")
        model = load(path, weights=False)
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
            raise ArtifactError(f"{path}: keeps weights in other files; {target} takes one file")
        outputs = tuple(map(_tensor, model.graph.output))
        names = {tensor.name for tensor in outputs}
        task = next((task for task, required in _OUTPUTS.items() if required <= names), None)
        if task is None:
            raise ArtifactError(f"{path}: outputs {', '.join(sorted(names))}; neither an encoder's nor a reader's")
        if task not in tasks:
            raise ArtifactError(f"{path}: made for {task}; {target} takes artifacts for {' or '.join(tasks)}")
        reading = _reading(artifact) if task == "question-answering" else None
        return cls(artifact, model, task, tuple(map(_tensor, model.graph.input)), outputs, reading)

    @property
    def folder(self) -> Path:
        return self.artifact.folder

    @property
    def precision(self) -> str:
        """What its weights are stored in: fp32, fp16 or int8."""
        return precision_of(self.model, onnx)

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

    def needs(self, prompts_by: str = "the caller", **more: Any) -> dict[str, Any]:
        """Return what runs the view: the artifact's needs, a reader's windows, prompts, and ``more``."""
        own = self.artifact.figures.get("needs")
        reading = {} if self.reading is None else {"reading": self.reading.model_dump(mode="json")}
        needs = {"onnxruntime": ">=1.24", **(own if isinstance(own, dict) else {}), "opset": self.opset}
        return needs | reading | self._prompts(prompts_by) | more

    def _prompts(self, put_by: str) -> dict[str, Any]:
        prompts = kept_prompts(self.folder)
        stated = {"named": prompts.stated, "default": prompts.default, "put_by": put_by}
        return {"prompts": stated} if prompts.stated else {}


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


def _reading(artifact: Artifact) -> Reading:
    """Return how a reader reads; ArtifactError where its artifact does not state it."""
    if READING not in artifact.manifest["files"]:
        raise ArtifactError(f"{artifact.folder}: no {READING} in its manifest; a reader states how its windows are cut")
    return read_reading(artifact.folder)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dims = (int(d.dim_value) if d.HasField("dim_value") else None for d in kind.shape.dim)
    return Tensor(value.name, int(kind.elem_type), tuple(dims))
