"""What a folder of vectors says of itself: of which texts and artifact, how, and whether all are there."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from compressor.artifact.folder import write_json
from compressor.artifact.manifest import MANIFEST, sha256
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, RecipeError
from compressor.core.files import replace_text
from compressor.core.strict_json import read_json
from compressor.texts.rows.base import RowFile
from compressor.texts.rows.plan import Plan
from exporters.embedding.options import Embedding
from exporters.runtime.running import Running

RECORD, PLAN = "_embedding.json", "_plan.json"
"""Readers of a folder of Parquet pass over names that begin so."""
_OWN = (".lock", PLAN)


class Source(Config):
    """A file of texts as it was."""

    path: str
    size: int
    mtime_ns: int
    column: str | None
    id_column: str | None

    @classmethod
    def of(cls, file: RowFile) -> "Source":
        """Look at a file."""
        status = file.path.stat()
        columns = {name: getattr(file, name, None) for name in ("column", "id_column")}
        return cls(path=str(file.path), size=status.st_size, mtime_ns=status.st_mtime_ns, **columns)


class Record(Config):
    """What was embedded, and how."""

    format: Literal["compressor-embedding/1"] = "compressor-embedding/1"
    artifact: str
    """sha256 of the artifact's manifest, which has that of each of its files."""
    options: Embedding
    prompt: str
    """What stands before every text."""
    dtype: str
    width: int
    """Values of a vector in its ``dtype``."""
    running: dict[str, Any]
    """How the encoder cuts batches and threads: a run that goes on elsewhere does it alike."""
    sources: tuple[Source, ...]
    rows: int
    shards: int
    finished: bool = False

    def write(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        write_json(folder / RECORD, self.model_dump(mode="json"))

    def check(self, folder: Path, artifact: str, options: Embedding, sources: Sequence[Source]) -> None:
        """Raise ArtifactError, with the first difference, for a run that would make other vectors."""
        for difference in self._differences(artifact, options, sources):
            raise ArtifactError(f"{folder}: begun with {difference}; give the same again, or another folder")

    def _differences(self, artifact: str, options: Embedding, sources: Sequence[Source]) -> Iterator[str]:
        if artifact != self.artifact:
            yield f"another artifact (sha256 of its manifest {self.artifact[:12]}…, not {artifact[:12]}…)"
        for name in type(options).model_fields:
            was, now = getattr(self.options, name), getattr(options, name)
            if was != now:
                yield f"{name} = {was}, not {now}"
        was, now = {s.path: s for s in self.sources}, {s.path: s for s in sources}
        for path in [*was, *now]:
            if path not in now or path not in was:
                yield f"other texts: {path} was {'not ' if path not in was else ''}among them"
            if was[path] != now[path]:
                yield f"other texts: {path} has changed (its size or its time)"
        if list(was) != list(now):
            yield "the same texts in another order"


def claim(folder: Path) -> Record | None:
    """Return what was begun in ``folder``, None where nothing was; ArtifactError where something else is there."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: exists and is no folder")
    path = folder / RECORD
    if not path.is_file():
        if any(not (inner.name in _OWN or ".partial-" in inner.name) for inner in folder.iterdir()):
            raise ArtifactError(f"{folder}: holds something else; give an empty or a new folder")
        return None
    try:
        record = Record.read(read_json(path), "record")
        Running.read(record.running)
        return record
    except (OSError, ValueError, TypeError, RecipeError) as error:
        raise ArtifactError(f"{path}: not readable: {error}") from error


def artifact_key(folder: Path) -> str:
    """Return what tells an artifact from another: the sha256 of its manifest."""
    return sha256(folder / MANIFEST)


def kept_plan(folder: Path, record: Record) -> Plan:
    """Return how the texts were cut when the run was begun; ArtifactError where that is not readable."""
    path = folder / PLAN
    try:
        plan = Plan.read(read_json(path, 1 << 30))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(f"{path}: not readable: {error}") from error
    if (plan.every, plan.rows, len(plan.marks)) != (record.options.shard_rows, record.rows, len(record.sources)):
        raise ArtifactError(f"{path}: is not of what {RECORD} says")
    return plan


def keep_plan(folder: Path, plan: Plan) -> None:
    """Keep how the texts are cut."""
    replace_text(folder / PLAN, json.dumps(plan.as_json(), separators=(",", ":")) + "\n")
