"""What a run beside peers measured, with types: the ``bench`` section of ``peers.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from benchmarks.results import MeasuredOn
from benchmarks.speed.figures import Offline, Ratio, SingleStream
from compressor.core.figures import Figures
from compressor.core.strict_json import JsonObject

if TYPE_CHECKING:  # a type alone: reports read figures without what measures them
    from compressor.vectors.retrieval import Found

Setting = Mapping[str, Any]
"""What is tried beside the batch size, such as the number of streams."""
_UNIT = "texts"


@dataclass(frozen=True)
class Loaded(Figures):
    """What a worker says of its system as it is loaded."""

    seconds: float
    dim: int
    max_length: int
    settings: Sequence[Setting]
    """The first uses all cores for one text."""
    size_bytes: int
    """Of the files it loads."""
    threads: int
    versions: Mapping[str, str]
    """Of its packages."""


@dataclass(frozen=True)
class AtBest:
    """Throughput of a system in the setting in which it is fastest."""

    offline: Offline
    setting: Setting

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return self.offline.as_dict(_UNIT) | {"setting": dict(self.setting)}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(Offline.read(stated, _UNIT), stated["setting"])


@dataclass(frozen=True)
class ToPeer:
    """How many times as fast as a peer a system is, over the rounds."""

    name: str
    ratio: Ratio

    @classmethod
    def of(cls, own: AtBest, name: str, peer: AtBest) -> Self:
        """Compare a system with the peer of that name, round by round."""
        return cls(name, Ratio.of(own.offline.rounds, peer.offline.rounds))

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return {"name": self.name, **self.ratio.as_dict()}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(stated["name"], Ratio.read(stated))


@dataclass(frozen=True)
class PeerAtLength:
    """Throughput on texts of one length."""

    tokens: int
    best: AtBest
    to_best_peer: ToPeer | None = None
    """Against the peer that is fastest at this length."""

    def against(self, peers: Mapping[str, "PeerAtLength"]) -> Self:
        """Return it with its comparison with the fastest of ``peers``, their figures at the same length by name."""
        name = max(peers, key=lambda peer: peers[peer].best.offline.ratio.median)
        return replace(self, to_best_peer=ToPeer.of(self.best, name, peers[name].best))

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return {"tokens": self.tokens, **self.best.as_dict(), **_stated(self.to_best_peer)}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(stated["tokens"], AtBest.read(stated), _to_peer(stated))


@dataclass(frozen=True)
class PeerFigures:
    """What was measured of a system that ran to the end."""

    agreement: Mapping[str, float]
    """With the teacher's vectors; of the teacher, none."""
    sts: Mapping[str, float]
    """Spearman's correlation x 100, by file."""
    best: AtBest
    single_stream: SingleStream
    by_length: Sequence[PeerAtLength]
    to_best_peer: ToPeer | None = None
    """Of an artifact: against the fastest peer of the teacher's weights."""
    retrieval: "Mapping[str, Found] | None" = None
    """What was found, by collection: figures, and those on the teacher's index; None where nothing was searched."""

    def against(self, peers: Mapping[str, "PeerFigures"], best: str) -> Self:
        """Return them with their comparisons: with the peer named ``best`` and, at each length, the fastest there."""
        lengths = [
            row.against({name: peer.by_length[place] for name, peer in peers.items()})
            for place, row in enumerate(self.by_length)
        ]
        return replace(self, by_length=lengths, to_best_peer=ToPeer.of(self.best, best, peers[best].best))

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return {
            "agreement": dict(self.agreement),
            "sts": dict(self.sts),
            **({} if self.retrieval is None else {"retrieval": dict(self.retrieval)}),
            "offline": self.best.as_dict(),
            "single_stream": self.single_stream.as_dict(),
            "by_length": [row.as_dict() for row in self.by_length],
            **_stated(self.to_best_peer),
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        return cls(
            stated["agreement"],
            stated["sts"],
            AtBest.read(stated["offline"]),
            SingleStream.read(stated["single_stream"]),
            [PeerAtLength.read(row) for row in stated["by_length"]],
            _to_peer(stated),
            stated.get("retrieval"),
        )


@dataclass(frozen=True)
class PeerRow:
    """A system beside the peers: what it is, and its figures or the reason why it has none."""

    name: str
    label: str
    kind: str
    """teacher, artifact or peer."""
    loaded: Loaded | None
    """None where it could not be loaded."""
    idle_share: float
    """The most of a core that it used while another system had its turn."""
    figures: PeerFigures | None = None
    reason: str | None = None

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        row: JsonObject = {"name": self.name, "label": self.label, "kind": self.kind}
        if (own := self.loaded) is not None:
            row |= {"versions": dict(own.versions), "size_bytes": own.size_bytes, "dim": own.dim}
            row |= {"load_seconds": own.seconds, "idle_share": self.idle_share, "threads": own.threads}
        if self.reason is not None:
            return row | {"reason": self.reason}
        return row if self.figures is None else row | self.figures.as_dict()


@dataclass(frozen=True)
class BesideFigures:
    """All systems, the teacher first."""

    items: MeasuredOn
    rounds: int
    threads: int
    systems: Sequence[PeerRow]
    best_peer: str | None = None
    """The fastest peer of the teacher's weights."""

    def compared(self, strangers: set[str]) -> Self:
        """Return them with each artifact compared with the fastest peers; ``strangers`` are other models."""
        peers = {row.name: row.figures for row in self.systems if row.kind == "peer" and row.name not in strangers}
        ran = {name: figures for name, figures in peers.items() if figures is not None}
        if not ran:
            return self
        best = max(ran, key=lambda name: ran[name].best.offline.ratio.median)
        rows = [
            replace(row, figures=row.figures.against(ran, best)) if row.kind == "artifact" and row.figures else row
            for row in self.systems
        ]
        return replace(self, systems=rows, best_peer=best)

    def as_dict(self) -> JsonObject:
        """Return what the ``bench`` section holds, in its order."""
        return {
            "texts": self.items.as_dict(),
            "rounds": self.rounds,
            "threads": self.threads,
            "best_peer": self.best_peer,
            "systems": [row.as_dict() for row in self.systems],
        }


def _stated(comparison: ToPeer | None) -> JsonObject:
    return {} if comparison is None else {"to_best_peer": comparison.as_dict()}


def _to_peer(stated: Mapping[str, Any]) -> ToPeer | None:
    return ToPeer.read(stated["to_best_peer"]) if "to_best_peer" in stated else None
