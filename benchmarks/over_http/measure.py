"""``compressor serve`` held against the same work in process, and beside peers' servers of the teacher.

All take turns, with the same texts, on the same threads. In each turn a server is started anew, and ended: what is
measured has the machine to itself, with the client, which is in this process and on the same cores.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from benchmarks.over_http import client
from benchmarks.over_http.figures import OverHttpFigures, PeerOverHttp, ServerFigures
from benchmarks.over_http.peers import Ready, ServedPeer, make_ready
from benchmarks.over_http.server import free_port, serving
from benchmarks.peers.process import variables_of
from benchmarks.peers.run import AGREEMENT_MIN, SAMPLE
from benchmarks.speed import throughput
from benchmarks.speed.turns import orders
from compressor.core.config import Config
from compressor.core.encoder import Vectors
from compressor.core.errors import CompressorError, PeerError, RecipeError, installed
from compressor.core.progress import say, track
from compressor.models.source import Source
from exporters.serving import Batcher
from exporters.session import OnnxEncoder

_AGREEMENT_TEXTS = 64
_OURS, _IN_PROCESS = "compressor serve", "in process"


@dataclass
class _Found:
    """What a system's turns gave, by figure; of a peer that failed, why."""

    values: dict[str, list[float]] = field(default_factory=dict)
    reason: str | None = None

    def note(self, **figures: float) -> None:
        for name, value in figures.items():
            self.values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return float(np.median(self.values[name]))

    def server(self) -> ServerFigures:
        names = ("start", "served", "single", "singles", "p50", "p99")
        return ServerFigures(*(self.median(name) for name in names))


class OverHttp(Config):
    """Measure an artifact over HTTP beside the same work in process, and beside peers' servers."""

    clients: Annotated[int, Field(ge=1)] = 8
    """Connections, each of which sends its next request when it has its answer."""
    texts_a_request: Annotated[int, Field(ge=1)] = 32
    """Texts of a request, and of a batch in process."""
    encoding_format: Literal["base64", "float"] = "base64"
    """How vectors are sent; OpenAI's client asks for base64."""
    seconds: Annotated[float, Field(gt=0)] = 3.0
    """Of each of the loads of a turn."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """Rounds; in each, everything is measured once."""
    queries: Annotated[int, Field(ge=20)] = 300
    """Single texts of a turn, one after the other."""
    load: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """The share of its highest rate of single texts at which they then arrive at random."""
    threads: Annotated[int, Field(ge=1)] | None = None
    """Threads of each system; by default all cores of the machine."""

    def measure(
        self,
        folder: Path,
        texts: Sequence[str],
        peers: Sequence[ServedPeer] = (),
        teacher: Source | None = None,
    ) -> OverHttpFigures:
        """Return the figures of both, and of ``peers``, which serve ``teacher``.

        A peer that cannot be installed, fails, or whose vectors are not the teacher's has the reason in place of
        figures. DependencyError without the server's packages, RecipeError for fewer texts than a request has.
        """
        if self.texts_a_request > len(texts):
            allowed = f"must be at most {len(texts):,}, as many texts as there are"
            raise RecipeError(f"texts_a_request = {self.texts_a_request}: {allowed}")
        installed("uvicorn", "uvicorn", "serve")
        run = _Run(self, folder, texts)
        if teacher is not None:
            run.add(peers, teacher)
        return run.figures()


class _Run:
    """One measurement: the systems, and what they have shown so far."""

    def __init__(self, asked: OverHttp, folder: Path, texts: Sequence[str]) -> None:
        self._asked, self._folder, self._texts = asked, folder, texts
        self._encoder = OnnxEncoder(folder, threads=asked.threads)
        self._threads = self._encoder.threads
        size = asked.texts_a_request
        starts = range(0, len(texts) - size + 1, size)  # whole requests alone
        self._many = [client.body(texts[at : at + size], asked.encoding_format) for at in starts]
        self._single = [client.body([text], asked.encoding_format) for text in texts]
        self._peers: dict[str, ServedPeer] = {}
        self._ready: dict[str, Ready] = {}
        self._found = {name: _Found() for name in (_IN_PROCESS, _OURS)}
        self._wanted: Vectors | None = None

    def add(self, peers: Iterable[ServedPeer], teacher: Source) -> None:
        """Make peers ready to take turns; one that cannot be is told of."""
        for peer in peers:
            self._peers[peer.name], self._found[peer.name] = peer, _Found()
            try:
                self._ready[peer.name] = make_ready(peer, teacher, self._texts[:SAMPLE], self._threads)
            except CompressorError as error:
                self._found[peer.name].reason = str(error)
            say(f"  {peer.name}: {self._found[peer.name].reason or 'ready'}")
        if any(peer.same_vectors for peer in self._peers.values()):
            from compressor.models.sentence_model import TorchEncoder  # here: without peers, no PyTorch is needed

            self._wanted = TorchEncoder.load(teacher.folder).encode(self._texts[:_AGREEMENT_TEXTS])

    def figures(self) -> OverHttpFigures:
        """Let all take their turns."""
        asked = self._asked
        say(f"  over HTTP and in process on {len(self._texts):,} texts, {asked.rounds} rounds in turns")
        with track("over HTTP", asked.rounds * len(self._found), "turns") as advance:
            for order in orders(list(self._found), asked.rounds):
                for name in order:
                    self._turn(name)
                    advance(1)
        inside, ours = self._found[_IN_PROCESS], self._found[_OURS]
        shares = np.array(ours.values["served"]) / np.array(inside.values["encode"])
        return OverHttpFigures(
            threads=self._threads,
            clients=asked.clients,
            texts_a_request=asked.texts_a_request,
            load=asked.load,
            encode_texts_per_second=inside.median("encode"),
            batcher_ms_p50=inside.median("batcher"),
            served_share=float(np.median(shares)),
            served=ours.server(),
            peers=[self._row(peer) for peer in self._peers.values()],
        )

    def _turn(self, name: str) -> None:
        found = self._found[name]
        if name == _IN_PROCESS:
            self._in_process(found)
        elif name == _OURS:
            self._ours(found)
        elif found.reason is None:
            self._peer(name, found)

    def _in_process(self, found: _Found) -> None:
        asked, texts = self._asked, self._texts
        found.note(encode=throughput.rate(self._encoder, texts, asked.texts_a_request, asked.seconds))
        with Batcher(self._encoder) as batcher:
            singles = [_timed(batcher, text) for text in islice(cycle(texts), asked.queries)]
        found.note(batcher=float(np.median(singles)))

    def _ours(self, found: _Found) -> None:
        port, threads = free_port(), self._threads
        serve = [sys.executable, "-m", "compressor.cli", "serve", f"measured={self._folder.absolute()}"]
        command = [*serve, "--port", str(port), "--threads", str(threads)]
        try:
            self._over_http(found, command, port, variables_of(threads, own=True))
        except CompressorError as error:
            raise PeerError(f"{_OURS}: {error}") from error

    def _peer(self, name: str, found: _Found) -> None:
        ready, port = self._ready[name], free_port()
        check = self._wanted if self._peers[name].same_vectors and not found.values else None
        try:
            self._over_http(found, ready.command(port), port, ready.variables(), check)
        except CompressorError as error:
            found.reason = str(error)

    def _over_http(
        self, found: _Found, command: Sequence[str], port: int, variables: Any, wanted: Vectors | None = None
    ) -> None:
        """Start a server, and ask it all that is measured; ``wanted`` are vectors that it must give."""
        asked, size = self._asked, self._asked.texts_a_request
        time.sleep(throughput.SETTLE_SECONDS)
        started = time.perf_counter()
        with serving(command, variables) as server:
            client.first_answer(port, self._single[0], server.check)
            start = time.perf_counter() - started
            if wanted is not None:
                _check(client.vectors(port, self._texts[: len(wanted)], size, asked.encoding_format), wanted)
            served = size * client.closed(port, self._many, asked.clients, asked.seconds)
            single = float(np.median(client.one_by_one(port, self._single, asked.queries)))
            rate = client.closed(port, self._single, asked.clients, asked.seconds)
            waits = client.arrivals(port, self._single, asked.load * rate, asked.seconds)
            p50, p99 = map(float, np.percentile(waits, [50, 99]))
            server.check()
        found.note(start=start, served=served, single=single, singles=rate, p50=p50, p99=p99)

    def _row(self, peer: ServedPeer) -> PeerOverHttp:
        found = self._found[peer.name]
        figures = found.server() if found.reason is None else None
        return PeerOverHttp(peer.name, peer.label, peer.versions(), peer.same_vectors, figures, found.reason)


def _check(given: Vectors, wanted: Vectors) -> None:
    if given.shape != wanted.shape:
        raise PeerError(f"gives vectors of {given.shape[1]} numbers, the teacher of {wanted.shape[1]}")
    lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(wanted, axis=1)
    cosine = float(np.mean(np.sum(given * wanted, axis=1) / np.maximum(lengths, 1e-12)))
    if not cosine >= AGREEMENT_MIN:
        raise PeerError(
            f"its vectors are not the teacher's: mean cosine {cosine:.4f}, at least {AGREEMENT_MIN:g} is asked"
        )


def _timed(batcher: Batcher, text: str) -> float:
    start = time.perf_counter()
    batcher.submit(text).result()
    return 1000 * (time.perf_counter() - start)
