"""A system that takes its turns: the teacher, an artifact or a peer, in a worker of its own."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from benchmarks.peers import environments
from benchmarks.peers.catalogue import Peer
from benchmarks.peers.forms import form_folder
from benchmarks.peers.process import Worker
from benchmarks.peers.results import Loaded, PeerFigures, PeerRow, Setting
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
    loaded: Loaded | None = None
    """What the worker said as it loaded."""
    reason: str | None = None
    batch_size: int = 32
    idle_share: float = 0.0
    """The most of a core it used while another system had its turn."""

    @property
    def known(self) -> Loaded:
        """Return what is known of a system that was loaded."""
        if self.loaded is None:
            raise PeerError(self.reason or "does not run")
        return self.loaded

    @property
    def dim(self) -> int:
        return self.known.dim

    @property
    def max_length(self) -> int:
        return self.known.max_length

    @property
    def settings(self) -> Sequence[Setting]:
        return self.known.settings

    @property
    def running(self) -> Worker:
        if self.worker is None:
            raise PeerError(self.reason or "does not run")
        return self.worker

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        return self.running.vectors(texts, batch_size)

    def encode_query(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        return self.running.vectors(texts, batch_size, "query")

    def encode_document(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        return self.running.vectors(texts, batch_size, "document")

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

    def row(self, figures: PeerFigures | None) -> PeerRow:
        """Return the row of the table, with ``figures`` where it ran to the end."""
        return PeerRow(self.name, self.label, self.kind, self.loaded, self.idle_share, figures, self.reason)

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
        entry.loaded = _load(entry.worker, "ours", teacher, None, threads, options)
    return entry


def open_peer(peer: Peer, teacher: Source, sample: Sequence[str], threads: int) -> Entry:
    """Start a peer, its environment and form made first; where it cannot be, the entry has the reason."""
    entry = Entry(peer.name, peer.label, "peer")
    with entry.turn():
        folder = str(form_folder(peer.form, teacher, sample, threads)) if peer.form else None
        own = peer.environment is None
        python = environments.own() if own else environments.python(str(peer.environment))
        entry.worker = Worker(python, threads, own)
        entry.loaded = _load(entry.worker, peer.runner, teacher, folder, threads, peer.options)
    return entry


def _load(
    worker: Worker, runner: str, teacher: Source, folder: str | None, threads: int, options: Mapping[str, Any]
) -> Loaded:
    request = {"runner": runner, "teacher": str(teacher.folder.absolute()), "folder": folder, "threads": threads}
    return Loaded.read(worker.ask("load", **request, options=dict(options)))
