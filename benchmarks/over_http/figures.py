"""What was measured over HTTP, with types: the ``over_http`` section of the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from compressor.core.figures import Figures


@dataclass(frozen=True)
class ServerFigures(Figures):
    """What a server does: medians of the rounds."""

    start_seconds: float
    """From the command to its first answer."""
    texts_per_second: float
    """Of clients that each send the next request when they have their answer."""
    single_ms_p50: float
    """One text at a time."""
    singles_per_second: float
    """Requests of one text, as many as are answered."""
    load_ms_p50: float
    """Of single texts that arrive at random, at a share of these."""
    load_ms_p99: float


@dataclass(frozen=True)
class PeerOverHttp(Figures):
    """A peer's server: its figures, or why it has none."""

    name: str
    label: str
    versions: Mapping[str, str]
    """Of its packages."""
    same_vectors: bool
    """False for what is another model than the teacher."""
    served: ServerFigures | None = None
    reason: str | None = None

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        served = stated["served"]
        return cls(**dict(stated) | {"served": None if served is None else ServerFigures.read(served)})


@dataclass(frozen=True)
class OverHttpFigures(Figures):
    """What an artifact does over HTTP, the same in process, and peers' servers: medians of the rounds."""

    threads: int
    clients: int
    texts_a_request: int
    load: float
    """The share of a server's highest rate of single texts at which they then arrive at random."""
    encode_texts_per_second: float
    batcher_ms_p50: float
    """One text at a time."""
    served_share: float
    """Texts a second over HTTP of ``encode``'s, round by round."""
    served: ServerFigures
    peers: Sequence[PeerOverHttp] = ()

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        numbers = {name: value for name, value in stated.items() if name not in ("served", "peers")}
        peers = [PeerOverHttp.read(row) for row in stated["peers"]]
        return cls(**numbers, served=ServerFigures.read(stated["served"]), peers=peers)
