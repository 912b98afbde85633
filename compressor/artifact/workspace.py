"""A run's folder: one folder a stage, each made once and again only when what it depends on has changed."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from compressor.artifact.code import code_key
from compressor.artifact.folder import (
    Artifact,
    Draft,
    is_artifact,
    key_of,
    noted_seconds,
    read_manifest,
    write_json,
    writing,
)
from compressor.core.config import Config
from compressor.core.errors import ArtifactError, storage
from compressor.core.progress import say


class Keyed(Protocol):
    """What a stage can depend on: anything with a hash of its content."""

    @property
    def key(self) -> str: ...


@dataclass(frozen=True)
class Key:
    """The hash of something that is no model."""

    key: str


@dataclass(frozen=True)
class Model:
    """A model's folder, the hash of what it was made from, and what was noted while making it."""

    folder: Path
    key: str
    figures: dict[str, Any] = field(default_factory=dict)

    def json(self, name: str) -> Any:
        """Return what its JSON file ``name`` holds."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Workspace:
    """The folder of one recipe's run."""

    folder: Path

    def stage(
        self,
        name: str,
        config: Config,
        inputs: Sequence[Keyed],
        make: Callable[[Draft], None],
        title: str | None = None,
    ) -> Model:
        """Return the stage's artifact, made by ``make`` unless one with the same key is there already.

        The key covers what ``stage_key`` hashes.
        """
        to = self.folder / name
        key = stage_key(name, config, inputs)
        if is_artifact(to) and read_manifest(to)["key"] == key:
            try:
                artifact = Artifact.open(to)
            except ArtifactError as damaged:
                say((name, "yellow"), f": made again: {damaged}")
            else:
                say((f"{name}: unchanged", "dim"))
                return Model(to, key, artifact.figures)
        say((name, "bold"), f": {title}" if title else "")
        used = _Used(checkpoints_of(to, key))
        with used, writing(to, name, key, config.model_dump(mode="json")) as draft:
            make(draft)
            draft.figures["seconds"] = used.seconds()
        for kept in to.parent.glob(f".{to.name}-checkpoints-*"):
            shutil.rmtree(kept, ignore_errors=True)
        return Model(to, key, dict(read_manifest(to)["figures"]))

    def is_made(self, name: str, config: Config, inputs: Sequence[Keyed]) -> bool:
        """Tell whether the stage's artifact is there already, whole."""
        to = self.folder / name
        try:
            return Artifact.open(to).key == stage_key(name, config, inputs)
        except ArtifactError:
            return False

    def checkpoints(self, name: str, config: Config, inputs: Sequence[Keyed]) -> Path:
        """Return where a stage keeps what an interrupted run goes on from; other settings have another place."""
        return checkpoints_of(self.folder / name, stage_key(name, config, inputs))

    def lock(self) -> AbstractContextManager[None]:
        """Keep a second run out of this folder while the body runs."""
        return _lock(self.folder)


def checkpoints_of(to: Path, key: str) -> Path:
    """Return where what is written to ``to`` under ``key`` keeps what an interrupted command goes on from."""
    return to.parent / f".{to.name}-checkpoints-{key[:12]}"


@contextmanager
def resumable(
    to: Path, name: str, config: Config, inputs: Sequence[Keyed], more: Mapping[str, Any] | None = None
) -> Iterator[tuple[Draft, Path]]:
    """Give the draft of ``to`` and the folder of its checkpoints, which goes when the artifact is whole.

    ``more`` is stated beside the configuration.
    """
    key = stage_key(name, config, inputs)
    kept = checkpoints_of(to, key)
    with writing(to, name, key, config.model_dump(mode="json") | dict(more or {})) as draft:
        yield draft, kept
    shutil.rmtree(kept, ignore_errors=True)


def stage_key(name: str, config: Config, inputs: Sequence[Keyed]) -> str:
    """Hash all that a stage's result depends on.

    Those are its configuration, the keys of its inputs, the release, the code that it runs with the versions of the
    packages that this uses (see ``closure``), and what it decides by this machine or measures on it.
    """
    own = [kind for kind in type(config).__mro__ if issubclass(kind, Config) and kind is not Config]
    code = code_key(*dict.fromkeys(kind.__module__ for kind in own))
    stated = config.model_dump(mode="json")
    return key_of(name, stated, [i.key for i in inputs], version("compressor"), code, config.decided_here())


class _Used(AbstractContextManager[None]):
    """The time that a stage takes, that of stopped runs included whose checkpoints it goes on from."""

    def __init__(self, checkpoints: Path) -> None:
        self.path = checkpoints / "seconds.json"

    def __enter__(self) -> None:
        self.started = time.monotonic() - noted_seconds(self.path)

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self.path.parent.is_dir():
            with suppress(OSError):
                write_json(self.path, {"seconds": self.seconds()})


class _lock(AbstractContextManager[None]):
    """An advisory lock on a file in the folder; the system gives it back when the process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        with storage(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = (self.folder / ".lock").open("w")
        try:
            import fcntl

            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no advisory locks on this system
            return
        except OSError as error:
            self.file.close()
            raise ArtifactError(f"{self.folder}: another run is at work in this folder") from error

    def __exit__(self, *_: object) -> None:
        self.file.close()
