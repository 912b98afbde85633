"""Prepare a run on a card where there is none: graphs, teacher, texts and wheels, in parts that can be carried."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import Field
from sentence_transformers import SentenceTransformer

from benchmarks.cuda import wheels
from benchmarks.cuda.material import FORMS, TEACHER, WHEELS, Form, Graph, Material, Stated, Student
from benchmarks.cuda.pack import INDEX, PART_BYTES, Index, pack, transfers
from compressor.artifact.cases import TEXTS
from compressor.artifact.folder import Draft, sha256, size_bytes
from compressor.artifact.workspace import Key, stage_key
from compressor.core.config import Config
from compressor.core.encoder import Vectors
from compressor.core.errors import RecipeError
from compressor.core.progress import say
from compressor.distil.student.layers import find_layers, keep_layers, spread_layers
from compressor.distil.training.embedding import save_student
from compressor.models.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.models.source import DEFAULT, Source, content_key, find
from compressor.texts.corpus import Texts
from exporters.graph.export import Export
from exporters.graph.optimise import Optimise
from exporters.precision.fp16 import Half

PARTS = "parts"
_TEACHER_FILES = (".json", ".txt", ".model", ".safetensors")
_OTHER_FORMS = ("onnx", "openvino")
_CHECKED, _TIMED = 48, 2000  # texts, beside the hard ones of a conformance set


class Prepare(Config):
    """Make what a run on a card needs."""

    teacher: str = DEFAULT
    """The original model: a folder or a name on the hub."""
    layers: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (6, 3, 1)
    """Depths to measure, beside the teacher's own. Layers are copied where no student has a depth."""
    students: tuple[Path, ...] = ()
    """Folders of trained students, each measured at its own depth."""
    texts: str | None = None
    """Where the texts come from; by default docstrings."""
    python: Annotated[str, Field(pattern=r"^3\.\d+$")] | None = None
    """The version of Python on the machine with the card, whose wheels are carried; None carries none."""

    def run(self, to: Path, part_bytes: int = PART_BYTES) -> Index:
        """Write the parts into ``to``/parts, unless they are there already, and say what is to be carried."""
        source, corpus = find(self.teacher), Texts.read({"source": self.texts}).load()
        pins = [Key(sha256(wheels.REQUIREMENTS)), *(Key(content_key(folder)) for folder in self.students)]
        key = stage_key("cuda", self, [source, corpus, *pins])
        parts = to / PARTS
        if (parts / INDEX).is_file() and (held := Index.read(parts)).key == key:
            say(f"{parts}: there already")
            return _say_transfers(held, parts)
        with TemporaryDirectory() as aside:
            made = Path(aside)
            self.make(source, list(corpus.heldout)[:_TIMED], corpus.source, made)
            if self.python is not None:
                say(f"  wheels for Python {self.python}")
                wheels.download(made / WHEELS, self.python)
            index = pack(made, parts, key, part_bytes)
        return _say_transfers(index, parts)

    def make(self, source: Source, texts: list[str], origin: str, to: Path) -> None:
        """Write teacher, students' graphs, texts and reference vectors into the folder ``to``."""
        copy_teacher(source.folder, to / TEACHER)
        checked = [text * times for text, times in TEXTS.values()] + texts[:_CHECKED]
        students, graphs, reference = [], [], dict[int, Vectors]()
        with TemporaryDirectory() as aside:
            depth, folders = self._students(source, texts, Path(aside))
            for layers, (folder, made) in folders.items():
                say(f"  {layers} layer{'s' if layers > 1 else ''}: {made}")
                graphs += write_graphs(folder, layers, to)
                students.append(Student(layers, made))
                reference[layers] = TorchEncoder.load(folder).encode(checked)
        stated = Stated(source.name, source.weights_sha256, depth, tuple(students), tuple(graphs), origin)
        Material(to).write(stated, checked, texts, reference)

    def _students(self, source: Source, texts: list[str], aside: Path) -> tuple[int, Mapping[int, tuple[Path, str]]]:
        """Return the teacher's depth, and the folder of each depth, the deepest first, with how it was made."""
        teacher = open_model(source.folder)
        depth = _depth(teacher)
        folders = {_depth(open_model(folder)): (folder, f"trained: {folder.name}") for folder in self.students}
        for layers in self.layers:
            if layers > depth:
                raise RecipeError(f"layers = {list(self.layers)}: {layers} are more than the teacher's {depth}")
            if layers < depth and layers not in folders:
                kept = spread_layers(layers, depth, "uniform")
                save_student(keep_layers(teacher, kept), aside / str(layers), texts[:8])
                listed = ", ".join(map(str, kept))
                folders[layers] = (
                    aside / str(layers),
                    f"layers {listed} of {depth} copied, untrained: for speed alone",
                )
        folders[depth] = (source.folder, "the teacher itself")
        return depth, dict(sorted(folders.items(), reverse=True))


def copy_teacher(folder: Path, to: Path) -> None:
    """Copy what PyTorch reads of a model's folder; links of the hub's cache become files."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in _TEACHER_FILES):
        name = path.relative_to(folder)
        if name.parts[0] not in _OTHER_FORMS:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / name)


def write_graphs(model: Path, layers: int, to: Path) -> list[Graph]:
    """Write a model's graph in each form below ``to``, as ``compressor export`` and ``fp16`` do, and list them."""
    with TemporaryDirectory() as aside:
        plain, fused = _draft(Path(aside) / "plain"), _draft(Path(aside) / "fused")
        folders: dict[Form, Draft] = {form: _draft(to / Graph(layers, form, 0).folder) for form in FORMS}
        Export().run(model, plain)
        Optimise().run(plain.folder, folders["fp32"])
        Optimise(skip_normalization=True).run(plain.folder, fused)
        Half().run(folders["fp32"].folder, folders["fp16"])
        Half().run(fused.folder, folders["fp16-fused"])
    return [Graph(layers, form, size_bytes(draft.folder)) for form, draft in folders.items()]


def _draft(folder: Path) -> Draft:
    folder.mkdir(parents=True)
    return Draft(folder)


def _depth(model: SentenceTransformer) -> int:
    return len(find_layers(transformer_of(model))[2])


def _say_transfers(index: Index, parts: Path) -> Index:
    """Say how large all is, and which parts go together."""
    files, carried = index.size_bytes / 1e6, index.carried_bytes / 1e6
    say(f"{parts}: {len(index.files)} files of {files:.0f} MB, {carried:.0f} MB to carry in {len(index.parts)} parts")
    for number, names in enumerate(transfers(index.parts), start=1):
        say(f"  transfer {number}: {' '.join(str(parts / name) for name in names)}")
    return index
