"""A sentence-transformers model that searches the teacher's index: the student reads queries, its teacher documents."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.artifact.folder import Artifact, Draft
from compressor.core.errors import ArtifactError, ModelError, installed
from exporters.pack.target import Contents, Target, write_text
from exporters.publish.template import template

if TYPE_CHECKING:
    from compressor.models.pooling import Pooling
    from compressor.models.source import Source

# PyTorch is imported where a model is opened: the other targets need none.

_STUDENTS = ("pca", "distil")  # of a run, the finished one first


class Router(Target):
    """A Router of sentence-transformers for PyTorch: the student on queries, its teacher on documents."""

    student: str | None = None
    """The PyTorch model that the artifact was exported from. By default the one in the artifact's run."""
    teacher: str | None = None
    """The teacher, a folder or a name on the hub. By default the one that the artifact names."""

    def run(self, artifact: Artifact, draft: Draft) -> None:
        """Write the model and its card, and what it differs from its parts by into the figures.

        ModelError where the student is not the artifact's, the teacher another one than it names, or their vectors are
        of different lengths and no projection lies with the artifact or the student.
        """
        contents = Contents.read(artifact, "router")
        installed("sentence_transformers", "sentence-transformers", "train")
        from exporters.pack.routes import Routes

        config = artifact.manifest.get("config")
        made_of: Mapping[str, Any] = config if isinstance(config, dict) else {}
        student, teacher = self._student(artifact), self._teacher(artifact, made_of)
        routes = Routes.of(artifact.folder, student, teacher.folder)
        routes.save(draft.folder)
        write_text(draft.folder / "README.md", _card(contents, teacher.name, made_of, routes.reduced))
        draft.figures["largest_difference"] = routes.differences(draft.folder)
        draft.figures["teacher"] = {"name": teacher.name, "sha256": teacher.weights_sha256}
        draft.figures["needs"] = {"sentence_transformers": ">=5.7"}

    def _student(self, artifact: Artifact) -> Path:
        """Return the student's folder: the one that is named, or a stage of the run that the artifact lies in."""
        if self.student is not None:
            return Path(self.student).expanduser()
        run = artifact.folder.resolve().parent.parent
        found = next((run / name for name in _STUDENTS if (run / name / "modules.json").is_file()), None)
        if found is None:
            raise ArtifactError(f"{artifact.folder}: no student in {run}; name its PyTorch model by --student")
        return found

    def _teacher(self, artifact: Artifact, made_of: Mapping[str, Any]) -> "Source":
        """Find the teacher; ModelError where it is not the one that the artifact was made of."""
        from compressor.models.source import find

        name, digest = self.teacher or made_of.get("teacher"), made_of.get("teacher_sha256")
        if not isinstance(name, str):
            raise ArtifactError(f"{artifact.folder}: names no teacher; name it by --teacher")
        source = find(name, pooling=None if self.teacher else _pooling(made_of))
        if digest is not None and source.weights_sha256 != digest:
            own = f"have sha256 {source.weights_sha256[:12]}…, those of the artifact's teacher {digest!s:.12}…"
            raise ModelError(f"{source.folder}: weights {own}")
        return source


def _pooling(made_of: Mapping[str, Any]) -> "Pooling | None":
    """Return how the artifact's recipe has its teacher pooled, where that is a plain transformer."""
    from compressor.models.pooling import POOLINGS

    recipe = made_of.get("recipe")
    teacher = recipe.get("teacher") if isinstance(recipe, dict) else None
    stated = teacher.get("pooling") if isinstance(teacher, dict) else None
    return next((pooling for pooling in POOLINGS if pooling == stated), None)


def _card(contents: Contents, teacher: str, made_of: Mapping[str, Any], reduced: bool) -> str:
    return template("router.md.j2").render(
        name=contents.name.removesuffix(f"-{contents.precision}"),
        teacher=teacher,
        licence=made_of.get("teacher_license"),
        reduced=reduced,
        dim=contents.dim,
    )
