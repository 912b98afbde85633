"""What is measured: each system a few words of text, so that a fresh process can open the same one."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from compressor.artifact.folder import MANIFEST, size_bytes
from compressor.artifact.layout import Kind
from compressor.core.encoder import Encoder
from compressor.core.errors import RecipeError
from exporters.runtime.asked import Asked
from exporters.runtime.names import CPU, CUDA, PARTIAL, TENSORRT, name_of
from exporters.tasks import EMBEDDING, Runner, Task, task_named
from exporters.tasks.base import TORCH_CPU, TORCH_CUDA, TORCH_CUDA_FP16

_TORCH_FILES = (".json", ".model", ".safetensors", ".txt")
_OTHER_FORMS = ("onnx", "openvino")


@dataclass(frozen=True)
class System:
    """A model or an artifact, and how it is run."""

    name: str
    label: str
    kind: Kind
    folder: str
    provider: str = CPU
    threads: int | None = None
    """By default what its library takes, which differs: a benchmark gives all systems the same."""
    max_length: int | None = None
    """Tokens after which PyTorch cuts a text; by default the model's own."""
    task: str = EMBEDDING
    stage: str | None = None
    """The stage of a run that made it."""
    reading: str = ""
    """How a reader reads, as JSON; by default as it was made to."""

    def open(self) -> Runner:
        """Load it; the libraries that it does not need stay unloaded."""
        options = {"max_length": self.max_length, "reading": self.reading}
        return self.does.open(Path(self.folder), self.kind, self.provider, self.threads, **options)

    def encoder(self) -> Encoder:
        """Load it as an encoder, which it must be."""
        return cast(Encoder, self.open())

    @property
    def does(self) -> Task:
        """What it is for."""
        return task_named(self.task)

    def imports(self) -> tuple[str, ...]:
        """Name the modules that it runs on, so that a load can be timed without them."""
        return self.does.imports(self.kind)

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @property
    def size_bytes(self) -> int:
        """Size on disk of the files that this system needs: a hub folder may hold the same weights many times."""
        folder = Path(self.folder)
        if self.kind == "onnx":
            return size_bytes(folder)
        files = [p for p in folder.rglob("*") if p.is_file() and p.suffix in _TORCH_FILES and p.name != MANIFEST]
        return sum(p.stat().st_size for p in files if p.relative_to(folder).parts[0] not in _OTHER_FORMS)


@dataclass(frozen=True)
class Made:
    """What a stage of a run made: a folder, and how it is read where it is a reader (as JSON)."""

    folder: Path
    reading: str = ""


_TEACHER, _STUDENT = "teacher", "student"
_ON_CPU: tuple[tuple[str, str, str, Kind], ...] = (  # stage, name, label, kind
    (_TEACHER, "teacher", "teacher, {call}", "torch"),
    (_STUDENT, "student", "student, {call}", "torch"),
    ("quantize", "torch-int8", "student, PyTorch dynamic int8", "torch-int8"),
    ("fp32", "onnx-fp32", "student, ONNX fp32", "onnx"),
    ("int8", "onnx-int8", "student, ONNX int8", "onnx"),
)
_ON_CUDA: tuple[tuple[str, str, str, Kind, str], ...] = (
    (_TEACHER, "teacher-cuda", "teacher, PyTorch fp32 on CUDA", "torch", TORCH_CUDA),
    (_TEACHER, "teacher-fp16-cuda", "teacher, PyTorch fp16 on CUDA", "torch", TORCH_CUDA_FP16),
    ("fp32", "onnx-fp32-cuda", "student, ONNX fp32 on CUDA", "onnx", CUDA),
    ("fp16", "onnx-fp16-cuda", "student, ONNX fp16 on CUDA", "onnx", CUDA),
)
_ON_TENSORRT: tuple[tuple[str, str, str, Kind, str], ...] = (
    ("fp32", "onnx-fp32-tensorrt", "student, ONNX fp32 on TensorRT", "onnx", TENSORRT),
    ("fp16", "onnx-fp16-tensorrt", "student, ONNX fp16 on TensorRT", "onnx", TENSORRT),
)
_FORMS = {stage for stage, *_ in (*_ON_CPU, *_ON_CUDA)}


def systems_of(stages: Mapping[str, Made], task: Task, providers: Sequence[str], threads: int | None) -> list[System]:
    """List what a run's benchmark compares, the teacher first; of several students, the last.

    On CUDA: the teacher and the graphs in fp32 and fp16; on TensorRT: the graphs. int8 there is slower than fp32, so
    it is not offered. On providers that take a part of a graph: the graphs in fp32 and int8.
    """
    named = {stage if stage in _FORMS else _STUDENT: stage for stage in stages}
    wanted = [(*row, CPU if row[3] == "onnx" else TORCH_CPU, threads) for row in _ON_CPU]
    if CUDA in providers:
        wanted += [(*row, None) for row in _ON_CUDA]
    if TENSORRT in providers:
        wanted += [(*row, None) for row in _ON_TENSORRT]
    for provider in taking_parts(providers):
        end, described = ending(provider), description(provider)
        for role, name, label, kind in _ON_CPU:
            if kind == "onnx":
                wanted.append((role, f"{name}-{end}", f"{label}, {described}", kind, provider, threads))
    systems = []
    for role, name, label, kind, provider, own_threads in wanted:
        if role in named:
            stage, made, shown = named[role], stages[named[role]], label.format(call=task.call)
            systems.append(
                System(name, shown, kind, str(made.folder), provider, own_threads, None, task.name, stage, made.reading)
            )
    return systems


def taking_parts(providers: Sequence[str]) -> list[str]:
    """Return those providers that take a part of a graph, any graph: int8 is measured there, too."""
    return [provider for provider in providers if name_of(provider) in PARTIAL]


def ending(provider: str) -> str:
    """Return how the name of a system on a provider ends: openvino, or with its options openvino-bf16-2."""
    asked = Asked.of(provider)
    return re.sub(r"[^a-z0-9]+", "-", "-".join([PARTIAL[asked.name], *asked.options.values()]).lower())


def description(provider: str) -> str:
    """Return how a label says a provider and its options: OpenVINO (NUM_STREAMS 2)."""
    asked = Asked.of(provider)
    options = ", ".join(f"{option} {value}" for option, value in asked.options.items())
    return PARTIAL[asked.name] + (f" ({options})" if options else "")


def check_names(names: Sequence[str]) -> None:
    """Refuse systems of one name; figures are told apart by it."""
    if len(set(names)) < len(names):
        raise RecipeError(f"systems {', '.join(names)}: each needs a name of its own")
