"""Shards on many machines, which see artifact, texts and output at the same places."""

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from compressor.artifact.code import code_key
from compressor.artifact.folder import Artifact
from compressor.artifact.manifest import MANIFEST, sha256
from compressor.core.cache import remove_leftovers
from compressor.core.errors import ArtifactError
from compressor.machine.cluster import Cluster, Work, check_code, spread
from compressor.texts.rows.plan import Shard
from exporters.embedding.job import Job, Worker
from exporters.embedding.record import RECORD

_CODE = "exporters.embedding.job"  # what shards are computed by
SEEN_SECONDS = 90.0
"""How long a file of another machine may take to be seen here: longer than NFS remembers by default."""


class Shards(Work):
    """A worker with a session."""

    def __init__(self, job: Job) -> None:
        self.job, self._code = job, code_key(_CODE)
        self._same = {path: sha256(path) for path in (job.artifact / MANIFEST, job.out / RECORD)}
        self._sizes = {file.path: file.path.stat().st_size for file in job.files}

    def open(self) -> None:
        """Open the artifact; ArtifactError for a machine that has other code, or does not see the same files."""
        host = socket.gethostname()
        check_code(code_key(_CODE), self._code)
        for path in [*self._same, *self._sizes]:
            if not self._sees(path):
                raise ArtifactError(
                    f"{host}: {path}: not there, or another than here; "
                    "every machine must see artifact, texts and output at the same paths"
                )
        Artifact.open(self.job.artifact)
        self._worker, self._output = Worker(self.job), self.job.output()

    def _sees(self, path: Path) -> bool:
        try:
            return sha256(path) == self._same[path] if path in self._same else path.stat().st_size == self._sizes[path]
        except OSError:
            return False

    def do(self, number: int) -> int:
        """Write a shard, unless it is there; return its rows."""
        shard = self.job.plan.shard(number)
        if not self._output.is_done(shard):
            self._worker.write([shard], self._output)
        return shard.rows


def embed_on(cluster: Cluster, job: Job, shards: Sequence[Shard], advance: Callable[[int], None]) -> None:
    """Compute ``shards`` on a cluster; ArtifactError where what its machines write is not seen here."""
    if not shards:
        return
    job = _absolute(replace(job, threads=cluster.threads))
    spread(Shards(job), [shard.number for shard in shards], cluster, advance)
    remove_leftovers(job.out, alone=True)  # of workers that were lost
    output, deadline = job.output(), time.monotonic() + SEEN_SECONDS
    for shard in shards:
        while not output.is_done(shard):
            if time.monotonic() > deadline:
                raise ArtifactError(
                    f"{job.out}: shard {shard.number} was written, and is not here; "
                    "every machine must see artifact, texts and output at the same paths"
                )
            time.sleep(1)


def _absolute(job: Job) -> Job:
    """Return the job with paths that do not depend on where a process was started."""
    files = tuple(replace(file, path=file.path.absolute()) for file in job.files)
    return replace(job, artifact=job.artifact.absolute(), out=job.out.absolute(), files=files)
