"""The story from teacher to artifact: what each stage kept, cost and saved, of encoders and of readers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TypedDict

from benchmarks.quality.sts import Sts
from benchmarks.systems import System
from compressor.answering.questions.spans import measure
from compressor.answering.questions.squad import Questions
from compressor.answering.readers.reader import Reading
from compressor.artifact.folder import Draft, write_json
from compressor.artifact.layout import GRAPH
from compressor.artifact.workspace import Model
from compressor.core.config import Config
from compressor.core.progress import track
from compressor.models.agreement import Heldout, check_vectors
from compressor.models.projection import Projection
from compressor.models.source import Source, layers_stated, read_config, weights_files
from compressor.models.torch_int8 import WEIGHTS
from compressor.untrusted.weights import read_header, weights_in
from compressor.vectors.retrieval import FIGURE, Found, Searches, ranking_kept
from exporters.graph.files import load, numbers
from exporters.loading import is_reader, kind_of, open_reader_of, reader_kind
from exporters.tasks import ANSWERING

WORDS = {
    "quantize": "PyTorch dynamic int8, one scale a channel",
    "fp32": "one ONNX graph, fused",
    "fp16": "the same in fp16, for CUDA",
    "int8": "ONNX int8, one scale a channel; vocabulary one scale a row",
}
"""What the stages did that are the same for every task."""
_IN_4_BITS = "ONNX int8, one scale a channel; vocabulary in 4 bits, one scale 32 columns"


class EncoderRow(TypedDict):
    """A stage of an encoder's story."""

    stage: str
    what: str
    layers: int
    dim: int
    parameters: int
    size_bytes: int
    seconds: float | None
    agreement: dict[str, float]
    sts: dict[str, float]
    retrieval: dict[str, Found]


class ReaderRow(TypedDict):
    """A stage of a reader's story."""

    stage: str
    what: str
    seconds: float | None
    parameters: int
    size_bytes: int
    answers: dict[str, float]


class Story(Config):
    """Measure every stage's quality and size."""

    def run(
        self,
        steps: Mapping[str, Model],
        heldout: Heldout,
        sts: Sequence[Sts],
        draft: Draft,
        searches: Searches | None = None,
    ) -> None:
        """Write ``story.json`` into ``draft``, a row a stage."""
        searches = searches or Searches()
        reducing = steps.get("pca") or steps.get("distil")
        projection = Projection.load(reducing.folder) if reducing else None
        rows = []
        with track("quality", len(steps), "stages") as advance:
            for name, model in steps.items():
                full = name == "teacher" or (name == "distil" and "pca" in steps)
                reduced = None if full else projection
                rows.append(row(name, model, heldout, reduced, sts, searches))
                advance(1)
        write_json(draft.folder / "story.json", rows)


def row(
    name: str,
    model: Model,
    heldout: Heldout,
    projection: Projection | None,
    sts: Sequence[Sts],
    searches: Searches | None = None,
) -> EncoderRow:
    """Return one stage's figures; ``searches`` have seen the teacher first, or have its index."""
    system = System(name, name, kind_of(model.folder), str(model.folder))
    encoder = system.encoder()
    vectors = encoder.encode(heldout.texts, 32)
    check_vectors(vectors, name)
    return {
        "stage": name,
        "what": what(name, model),
        "layers": layers_stated(read_config(model.folder)),
        "dim": encoder.dim,
        "parameters": parameters(model.folder),
        "size_bytes": system.size_bytes,
        "seconds": model.figures.get("seconds"),
        "agreement": heldout.agreement(vectors, projection) | {FIGURE: ranking_kept(heldout, vectors)},
        "sts": {file.name: file.spearman(encoder, whose=name) for file in sts},
        "retrieval": (searches or Searches()).of(name, encoder, projection),
    }


def what(name: str, model: Model) -> str:
    """Say in a few words what a stage did."""
    figures = model.figures
    if isinstance(model, Source):
        stored = "" if model.stored == "fp32" else f"; weights in {model.stored}, opened as fp32"
        return f"{model.name}, from {model.origin}{stored}"
    if name == "distil" and "layers" in figures:
        layers = f"layers {', '.join(map(str, figures['layers']))} kept" if figures["layers"] else "one vector a token"
        minutes = figures["train_seconds"] / 60
        return f"{layers}; {figures['texts_seen']:,} texts imitated in {minutes:.1f} min"
    if name == "pca" and "variance_kept" in figures:
        mean = "mean taken off" if figures["centered"] else "mean left in"
        return f"principal components, {mean}; {100 * figures['variance_kept']:.1f} % of the variance"
    return words_of(name, model, {"distil": "teacher as it is", "pca": "vectors as they are"})


def words_of(name: str, model: Model, own: Mapping[str, str]) -> str:
    """Return what a stage did, of those with words of their ``own`` and those that every task has."""
    if name == "int8" and model.figures.get("embeddings") == 4:
        return _IN_4_BITS
    return own[name] if name in own else WORDS[name]


@dataclass(frozen=True)
class StoryStage:
    """A stage of a reader's story: its model, what it did in a few words, and how it is read."""

    model: Model
    what: str
    reading: Reading


class Answers(Config):
    """Answer the questions to be judged by, and weigh the reader."""

    def run(self, stage: StoryStage, test: Questions, draft: Draft) -> None:
        """Write ``answers.json`` into ``draft``: F1 and exact match on ``test``, 0 to 100, parameters and bytes."""
        folder = stage.model.folder
        predictions = open_reader_of(folder, stage.reading).read(test, 32)
        figures = {
            "parameters": parameters(stage.model.folder),
            "size_bytes": System("", "", reader_kind(folder), str(folder), task=ANSWERING).size_bytes,
            "answers": measure(test, predictions, test.version, stage.reading.no_answer_threshold),
        }
        write_json(draft.folder / "answers.json", figures)


def parameters(folder: Path) -> int:
    """Count the numbers that a folder's encoder or reader holds."""
    kind = kind_of(folder)
    if kind == "onnx":
        return numbers(load(folder / GRAPH))
    if kind == "torch-int8":
        files = [folder / WEIGHTS]
    else:
        files = weights_in(folder) if is_reader(folder) else weights_files(folder)
    files += sorted(folder.glob("*_Dense/model.safetensors"))
    return sum(prod(entry["shape"]) for file in files for entry in read_header(file).values())
