"""One artifact's files in the folder of another: those that are its own, and nothing that merely lies beside them."""

import shutil
from collections.abc import Container
from pathlib import Path

from compressor.artifact.folder import Artifact
from compressor.artifact.layout import CASES, GRAPH
from compressor.artifact.manifest import KEPT, MANIFEST, meant

_OF_VIEWS = (KEPT, ".gitattributes")  # what a view for the hub has beside the artifact's files
_OF_GRAPHS = (GRAPH.parent.name, "README.md", CASES.parent.name)


def copy_artifact(source: Path, folder: Path, but: Container[str] = ()) -> None:
    """Copy a model's files to ``folder``, but for its manifest and what is called ``but`` at its top.

    Those that its manifest names, where it has one; ArtifactError for one that differs, and for links.
    """
    for name in _own(source):
        if name.partition("/")[0] in but:
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)


def copy_consumer_files(source: Path, folder: Path) -> None:
    """Copy everything but the graph and what is said of it (manifest, card, conformance set) to another folder."""
    copy_artifact(source, folder, _OF_GRAPHS)
    (folder / GRAPH).parent.mkdir(parents=True, exist_ok=True)


def _own(source: Path) -> list[str]:
    """Name the files of a model; a folder on the way into an artifact has no manifest yet."""
    there = (source / MANIFEST).is_symlink() or (source / MANIFEST).exists()
    names = Artifact.open(source).manifest["files"] if there else meant(source)
    return [name for name in names if name not in _OF_VIEWS]
