"""How an artifact runs fastest on the CPU that it was tuned on: threads, batches, ONNX Runtime's own settings."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from compressor.artifact import read_manifest
from compressor.errors import ArtifactError, RecipeError
from compressor.machine import features
from compressor.manifest import MANIFEST
from compressor.recipe import Config


class Running(Config):
    """Settings of sessions and batches."""

    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads a session; as many sessions run side by side as the cores allow."""
    batch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of a batch, padding included, at most."""
    equal_lengths: bool = False
    """Only texts of one length share a batch, so that none is padded."""
    arena: bool = True
    """ONNX Runtime keeps the memory of one run for the next."""
    spinning: bool = True
    """Threads of one session wait for each other awake."""

    @classmethod
    def load(cls, folder: Path) -> "Running":
        """Return what the manifest in ``folder`` states for this CPU; the defaults for another, or without one.

        Raises ArtifactError for settings that are none.
        """
        if not (folder / MANIFEST).is_file():
            return cls()
        choice = read_manifest(folder)["figures"].get("choice")
        if choice is None:
            return cls()
        try:
            return cls.read(choice["running"]) if choice["cpu_features"] == features() else cls()
        except (RecipeError, LookupError, TypeError) as error:
            raise ArtifactError(f"{folder / MANIFEST}: figures.choice: {error}") from error

    def session_options(self) -> dict[str, Any]:
        """Return what differs from ONNX Runtime's defaults, as its session options name it."""
        made: dict[str, Any] = {}
        if not self.arena:
            made["enable_cpu_mem_arena"] = False
        if not self.spinning:
            made["session.intra_op.allow_spinning"] = "0"
        return made
