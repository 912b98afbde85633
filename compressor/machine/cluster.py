"""Numbered pieces of work spread over a Ray cluster: a worker that is lost loses none of them."""

import logging
import os
import socket
import sys
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import Any

from compressor.core.cores import usable_cores
from compressor.core.encoder import check_whole
from compressor.core.errors import ArtifactError, CompressorError, RecipeError, installed, one_line
from compressor.core.progress import say

START_SECONDS = 600.0
"""How long the first worker may take to start: a cluster may have to get machines first."""
LOSSES = 3
"""Workers that are lost at one piece before it is held to be what kills them."""

_STORE_BYTES = 1 << 27  # of a cluster of our own: what passes through it is numbers


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what is asked of it."""

    address: str
    """``local`` starts one on this machine and ends it; those of ``auto`` and ``host:port`` are there."""
    workers: int | None = None
    """None: as many as its machines have room for."""
    threads: int = 1
    """Cores of a worker."""

    @classmethod
    def asked(cls, ray: str | None, workers: int | None, threads: int | None) -> "Cluster | None":
        """Return what options ask for, None for no cluster; RecipeError for one without it, DependencyError."""
        if ray is None:
            if workers is not None:
                raise RecipeError(f"workers = {workers}: only with ray")
            return None
        installed("ray", "ray", "ray")
        count = None if workers is None else check_whole("workers", workers)
        return cls(ray, count, 1 if threads is None else check_whole("threads", threads))


class Work(ABC):
    """What every worker does; it is pickled to it."""

    @abstractmethod
    def open(self) -> None:
        """Make ready, once a worker; CompressorError for a machine on which the work cannot be done."""

    @abstractmethod
    def do(self, number: int) -> int:
        """Do a piece, whole or not at all, and return what ``advance`` is told; one that is done may come again."""


def check_code(there: str, here: str) -> None:
    """Refuse to work on a machine whose code, by its key, is not that of who asks: ArtifactError."""
    if there != here:
        host = socket.gethostname()
        raise ArtifactError(f"{host}: other code than here; install the same compressor, packages and Python there")


def spread(work: Work, numbers: Sequence[int], cluster: Cluster, advance: Callable[[int], None]) -> None:
    """Do the pieces ``numbers`` on a cluster's workers, each those that follow each other as long as it can.

    A worker that is lost is replaced, and its piece done again; a piece at which LOSSES are lost is a CompressorError.
    What a piece raises ends all. RecipeError for an address without a cluster, and where no worker starts;
    DependencyError without ray.
    """
    with connected(cluster) as ray:
        count = min(len(numbers), cluster.workers or _room(ray, cluster.threads))
        ends = [len(numbers) * place // count for place in range(count + 1)]
        parts = [deque(numbers[first:end]) for first, end in zip(ends, ends[1:], strict=False)]
        _Spread(ray, cluster, ray.put(work), parts, advance).run()


class _Worker:
    """A process of the cluster."""

    def __init__(self, work: Work, threads: int) -> None:
        os.environ["RAYON_NUM_THREADS"] = str(threads)  # of tokenizers; Ray itself says it to OpenMP
        self._work = work

    def open(self) -> None:
        self._work.open()

    def do(self, number: int) -> int:
        return self._work.do(number)


@dataclass(frozen=True)
class _Task:
    """What a worker is at: a piece, or None while it makes ready."""

    actor: Any
    place: int
    number: int | None


@dataclass
class _Spread:
    """The pieces by who begins with them, and who does which."""

    ray: Any
    cluster: Cluster
    work: Any
    parts: list[deque[int]]
    advance: Callable[[int], None]
    tasks: dict[Any, _Task] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)
    started: bool = False

    def run(self) -> None:
        """Go on until every piece is done; workers that never start are not waited for."""
        for place in range(len(self.parts)):
            self._start(place)
        while any(self.parts) or any(task.number is not None for task in self.tasks.values()):
            ready, _ = self.ray.wait(list(self.tasks), timeout=None if self.started else START_SECONDS)
            if not ready:
                raise RecipeError(self._idle())
            self._took(self.tasks.pop(ready[0]), ready[0])

    def _start(self, place: int) -> None:
        cores = self.cluster.threads
        kind = self.ray.remote(num_cpus=cores, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")
        actor = kind(_Worker).remote(self.work, cores)
        self.tasks[actor.open.remote()] = _Task(actor, place, None)

    def _took(self, task: _Task, ready: Any) -> None:
        errors = self.ray.exceptions
        try:
            done = self.ray.get(ready)
        except errors.RayTaskError as error:
            raise error.cause from None
        except (errors.RayActorError, errors.OutOfMemoryError, errors.NodeDiedError) as error:
            self._lost(task, error)
            return
        self.started = True
        if task.number is not None:
            self.advance(done)
        number = self._next(task.place)
        if number is not None:  # else the worker goes, as nobody holds it any more
            self.tasks[task.actor.do.remote(number)] = _Task(task.actor, task.place, number)

    def _next(self, place: int) -> int | None:
        """Take a worker's next piece; of another's, where it has none, the last, from which that one is farthest."""
        if self.parts[place]:
            return self.parts[place].popleft()
        longest = max(self.parts, key=len)
        return longest.pop() if longest else None

    def _lost(self, task: _Task, error: Exception) -> None:
        """Put a lost worker's piece back, and start another worker."""
        at = -1 if task.number is None else task.number
        self.losses[at] += 1
        if self.losses[at] >= LOSSES * (len(self.parts) if at < 0 else 1):
            what = "before they began" if at < 0 else f"at shard {at}"
            raise CompressorError(f"{self.losses[at]} workers were lost {what}; the last: {one_line(error)}")
        say("a worker was lost; its work is done by another")
        with suppress(Exception):
            self.ray.kill(task.actor)  # one that is merely cut off
        if task.number is not None:
            self.parts[task.place].appendleft(task.number)
        self._start(task.place)

    def _idle(self) -> str:
        most = max((node["Resources"].get("CPU", 0) for node in _machines(self.ray)), default=0)
        return (
            f"threads = {self.cluster.threads}: no worker of so many cores started in {START_SECONDS:g} s; "
            f"the largest machine of the cluster has {most:g}, and others may be using it"
        )


def _machines(ray: Any) -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]


def _room(ray: Any, threads: int) -> int:
    return max(1, sum(int(node["Resources"].get("CPU", 0)) // threads for node in _machines(ray)))


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Give ray, connected; a program's own connection is taken for ``auto``, and left open. Raises as ``spread``."""
    ray, address = installed("ray", "ray", "ray"), cluster.address
    if address == "auto" and ray.is_initialized():
        yield ray
        return
    own: dict[str, Any] = {}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        cores = max(usable_cores(), (cluster.workers or 0) * cluster.threads)
        own = {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise RecipeError(f"ray = {address}: no cluster that can be used: {one_line(error)}") from error
    try:
        with redirect_stdout(sys.stderr):  # where Ray would print its notices beside what a command prints
            yield ray
    finally:
        ray.shutdown()
