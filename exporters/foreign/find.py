"""Which graph a path names: one of this project's, or one that others exported, with the folder of its settings."""

from dataclasses import dataclass
from pathlib import Path

from compressor.artifact.folder import MANIFEST
from compressor.artifact.layout import GRAPH, READING, TORCH_INT8
from compressor.core.errors import ModelError
from compressor.core.strict_json import read_json
from compressor.untrusted.weights import INDEX, WEIGHTS
from exporters.loading import answers

_SUFFIX = ".onnx"
_DEFAULTS = (GRAPH.as_posix(), "model.onnx")
_SETTINGS = ("modules.json", "tokenizer.json")
_MOST_LISTED = 8


@dataclass(frozen=True)
class Foreign:
    """A graph that others exported."""

    folder: Path
    """What its tokenizer and its settings are read from."""
    name: str
    """The graph's path within."""

    @property
    def graph(self) -> Path:
        return self.folder / self.name


def foreign_in(path: Path) -> Foreign | None:
    """Return the graph of others that ``path`` names, a folder or a .onnx file; None where it names anything else.

    Of a folder with several it is onnx/model.onnx, or model.onnx at the top, or the only one; ModelError where that
    leaves a choice. A folder with the weights of a PyTorch model is that model, unless the graph itself is given.
    """
    if path.suffix == _SUFFIX and path.is_file():
        folder = _folder_of(path)
        return None if own_folder(path) else Foreign(folder, path.relative_to(folder).as_posix())
    if not path.is_dir() or _is_own(path) or _answers(path) or _is_torch(path):
        return None
    names = graphs_in(path)
    return Foreign(path, _chosen(path, names)) if names else None


def own_folder(path: Path) -> Path | None:
    """Return the artifact that ``path``, a .onnx file, is the graph of; None where it is none of an artifact."""
    folder = path.parent.parent
    return folder if path == folder / GRAPH and _is_own(folder) else None


def graphs_in(folder: Path) -> list[str]:
    """Return the graphs at the top of a folder and in its onnx/, by their paths within."""
    found = [*folder.glob(f"*{_SUFFIX}"), *folder.glob(f"{GRAPH.parent}/*{_SUFFIX}")]
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def _chosen(folder: Path, names: list[str]) -> str:
    if name := next((name for name in _DEFAULTS if name in names), None):
        return name
    if len(names) == 1:
        return names[0]
    listed = ", ".join(names[:_MOST_LISTED]) + (", …" if names[_MOST_LISTED:] else "")
    raise ModelError(f"{folder}: graphs {listed}, and none is {' or '.join(_DEFAULTS)}; give one of them by its path")


def _folder_of(graph: Path) -> Path:
    """Return the nearest folder that holds settings; a module list, which says how tokens are pooled, comes first."""
    near = (graph.parent, graph.parent.parent)
    places = [folder for name in _SETTINGS for folder in near if (folder / name).is_file()]
    return places[0] if places else graph.parent


def _is_own(folder: Path) -> bool:
    """Tell an artifact, a reader or PyTorch int8; a manifest that is not sound is for others to refuse."""
    return any((folder / name).is_symlink() or (folder / name).exists() for name in (MANIFEST, READING, TORCH_INT8))


def _is_torch(folder: Path) -> bool:
    if not (folder / "modules.json").is_file():
        return False
    from compressor.models.source import transformer_folder

    return any((transformer_folder(folder) / name).is_file() for name in (WEIGHTS, INDEX))


def _answers(folder: Path) -> bool:
    """Tell a transformer that answers questions, of which only this project's own graphs are run."""
    if (folder / "modules.json").is_file():
        return False
    try:
        return answers(read_json(folder / "config.json"))
    except (OSError, ValueError, AttributeError):
        return False
