"""A repository of the Hugging Face hub."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from pydantic import Field

from compressor.artifact.folder import MANIFEST, Artifact, Draft
from compressor.artifact.manifest import KEPT
from compressor.core.errors import ArtifactError
from exporters.pack.target import TASKS, Contents, Target, TaskName, copy_files, write_text

_LFS = ("*.onnx", "*.safetensors")
_LARGE = 10_000_000  # bytes; the hub takes larger files by LFS alone
_TAGS: dict[TaskName, tuple[str, list[str]]] = {
    "sentence-embedding": ("sentence-similarity", ["sentence-transformers", "feature-extraction"]),
    "question-answering": ("question-answering", []),
}
"""The hub's name of a task, and what else is asked for by it."""


class Hub(Target):
    """A repository of the Hugging Face hub: all files, the card's header, .gitattributes."""

    license: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]*$")
    """The hub's name of the licence, as apache-2.0. By default the card's own, or none."""
    base_model: str | None = None
    """The model on the hub that it was made from. By default the card's own."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write all files of the artifact, its card with a whole header, and .gitattributes."""
        contents = Contents.read(artifact, "hub", TASKS)
        names = sorted(artifact.manifest["files"])
        copy_files(artifact, draft, [name for name in names if name not in (KEPT, MANIFEST, ".gitattributes")])
        write_text(draft.folder / "README.md", self._card(contents))
        write_text(draft.folder / ".gitattributes", _attributes(artifact))
        draft.figures["needs"] = contents.needs("sentence-transformers and OnnxEncoder, elsewhere the caller")

    def _card(self, contents: Contents) -> str:
        path = contents.folder / "README.md"
        card = card_of(path) if path.is_file() else ModelCard(f"# {contents.name}\n")
        task, tags = _TAGS[contents.task]
        own = card.data.to_dict()
        quantized = ["int8"] if contents.precision == "int8" else []
        header: dict[str, Any] = {
            "library_name": own.get("library_name") or "onnxruntime",
            "pipeline_tag": own.get("pipeline_tag") or task,
            "tags": list(dict.fromkeys([*(own.get("tags") or []), *tags, task, "onnx", *quantized])),
            "base_model": self.base_model or own.get("base_model"),
            "license": self.license or own.get("license"),
        }
        rest = {key: value for key, value in own.items() if key not in header}
        for key, value in {**header, **rest}.items():
            card.data[key] = value
        return str(card)


def card_of(path: Path) -> ModelCard:
    """Read a card; ArtifactError where its header is none."""
    try:
        return ModelCard(path.read_text(encoding="utf-8"))
    except Exception as error:  # yaml's own kinds, and ValueError
        raise ArtifactError(f"{path}: its header is not readable as YAML") from error


def _attributes(artifact: Artifact) -> str:
    """Name the files that go by LFS: graphs, weights, and whatever else the hub takes in no other way."""
    covered = tuple(pattern.removeprefix("*") for pattern in _LFS)
    files = artifact.manifest["files"].items()
    large = sorted(name for name, entry in files if entry["size"] > _LARGE and not name.endswith(covered))
    lines = [f"{pattern} filter=lfs diff=lfs merge=lfs -text" for pattern in (*_LFS, *map(_escaped, large))]
    return "\n".join(lines) + "\n"


def _escaped(name: str) -> str:
    return Path(name).as_posix().replace(" ", "[[:space:]]")
