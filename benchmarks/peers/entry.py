"""A system that takes its turns: the teacher, an artifact or a peer, in a worker of its own."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.peers import environments
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.forms import form_folder
from benchmarks.peers.process import Worker
from benchmarks.systems import System
from compressor.core.encoder import Vectors
from compressor.core.errors import CompressorError, PeerError
from compressor.models.source import Source


@dataclass
class Entry:
    """One row of the table, an Encoder while it runs; ``reason`` says why it does not."""

    name: str
    label: str
    kind: str
    """teacher, artifact or peer."""
    worker: Worker | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the worker told as it loaded: seconds, dim, max_length, settings, size_bytes, threads, versions."""
    reason: str | None = None
    batch_size: int = 32
    idle_share: float = 0.0
    """The most of a core it used while another system had its turn."""

    @property
    def dim(self) -> int:
        return int(self.facts["dim"])

    @property
    def max_length(self) -> int:
        return int(self.facts["max_length"])

    @property
    def settings(self) -> list[dict[str, Any]]:
        return list(self.facts["settings"])

    @property
    def running(self) -> Worker:
        if self.worker is None:
            raise PeerError(self.reason or "does not run")
        return self.worker

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        return self.running.vectors(texts, batch_size)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Take a turn: a peer that fails in it is out of the run from then on; of others it is an error."""
        try:
            yield
        except CompressorError as error:
            self.close()
            self.reason = str(error)
            if self.kind != "peer":
                raise PeerError(f"{self.name}: {error}") from error
        except BaseException:  # Ctrl-C
            self.close()
            raise

    def close(self) -> None:
        if self.worker is not None:
            self.worker.close()
            self.worker = None


def open_system(system: System, kind: str, teacher: Source, threads: int) -> Entry:
    """Start the teacher or an artifact; PeerError where it cannot be loaded."""
    entry = Entry(system.name, system.label, kind)
    with entry.turn():
        entry.worker = Worker(environments.own(), threads, own=True)
        options = {"system": asdict(replace(system, threads=threads))}
        entry.facts = _load(entry.worker, "ours", teacher, None, threads, options)
    return entry


def open_peer(peer: Peer, teacher: Source, sample: Sequence[str], threads: int) -> Entry:
    """Start a peer, its environment and form made first; where it cannot be, the entry has the reason."""
    entry = Entry(peer.name, peer.label, "peer")
    with entry.turn():
        folder = str(form_folder(peer.form, teacher, sample, threads)) if peer.form else None
        own = peer.environment is None
        python = environments.own() if own else environments.python(str(peer.environment))
        entry.worker = Worker(python, threads, own)
        entry.facts = _load(entry.worker, peer.runner, teacher, folder, threads, dict(peer.options))
    return entry


def _load(
    worker: Worker, runner: str, teacher: Source, folder: str | None, threads: int, options: dict[str, Any]
) -> Mapping[str, Any]:
    request = {"runner": runner, "teacher": str(teacher.folder.absolute()), "folder": folder, "threads": threads}
    return worker.ask("load", **request, options=options)
