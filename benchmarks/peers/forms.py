"""The teacher in the forms that the peers need, each made once by the peer's own tools and kept in the cache."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import environments
from benchmarks.peers.catalogue import Form
from benchmarks.peers.process import Worker
from compressor.artifact.code import installed
from compressor.artifact.folder import key_of
from compressor.core.cache import cache_folder, keeping
from compressor.core.errors import PeerError
from compressor.core.progress import say
from compressor.models.source import Source

_RUNNERS = "benchmarks.peers.runners"


def form_folder(form: Form, teacher: Source, sample: Sequence[str], threads: int) -> Path:
    """Return the folder of ``form`` of the teacher, made first where it is not there; PeerError if it cannot be.

    ``sample`` are the texts that ranges are calibrated on, where they are.
    """
    made_by = [environments.key(form.environment), installed().digests(f"{_RUNNERS}.{form.runner}")]
    texts = list(sample) if form.calibrated else []
    folder = cache_folder() / "peers" / "forms" / f"{form.name}-{key_of(teacher.key, made_by, texts)[:12]}"
    if not folder.is_dir():
        with keeping(folder, folder.is_dir) as draft:
            _make(form, teacher, texts, threads, draft)
    return folder


def _make(form: Form, teacher: Source, texts: list[str], threads: int, folder: Path) -> None:
    """Make it in a process of its own, so that what runs it later has not the memory of its making."""
    python = environments.python(form.environment)
    say(f"  {form.name}: made from the teacher, once")
    try:
        with Worker(python, threads) as worker:
            paths = {"teacher": str(teacher.folder.absolute()), "folder": str(folder)}
            worker.ask("prepare", runner=form.runner, **paths, texts=texts, options=dict(form.options))
    except PeerError as error:
        raise PeerError(f"{form.name} cannot be made: {error}") from error
