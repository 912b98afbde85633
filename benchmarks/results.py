"""The ``bench`` section of results, with types: what was measured of each system, and on what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from benchmarks.speed.figures import AtLength, Footprint, HighestRate, Offline, SingleStream
from benchmarks.speed.limit import Reached
from benchmarks.speed.turns import AgainstItself
from compressor.core.figures import Figures
from compressor.core.strict_json import JsonObject

if TYPE_CHECKING:  # a type alone: a benchmark runs nothing of it
    from compressor.vectors.retrieval import Found
    from exporters.runtime.placed import Placed


@dataclass(frozen=True)
class MeasuredOn(Figures):
    """The texts or questions that speed was measured on."""

    source: str
    count: int
    tokens_mean: float
    tokens_p50: float
    tokens_p99: float

    @classmethod
    def of(cls, source: str, tokens: Sequence[int]) -> Self:
        """Describe items from ``source`` of so many tokens each."""
        p50, p99 = np.percentile(tokens, [50, 99])
        return cls(source, len(tokens), float(np.mean(tokens)), float(p50), float(p99))


@dataclass(frozen=True)
class Twin:
    """The system that ran under two names."""

    system: str
    offline: AgainstItself
    single_stream: AgainstItself

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        scenarios = {"offline": self.offline.as_dict(), "single_stream": self.single_stream.as_dict()}
        return {"system": self.system, **scenarios}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        offline, single_stream = (AgainstItself.read(stated[name]) for name in ("offline", "single_stream"))
        return cls(stated["system"], offline, single_stream)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What a system's results are worth; None for what was not measured, or is another task's."""

    dim: int | None = None
    """Length of its vectors."""
    agreement: Mapping[str, float] | None = None
    """With the teacher's vectors, by figure."""
    sts: Mapping[str, float] | None = None
    """Spearman's correlation x 100, by file."""
    retrieval: "Mapping[str, Found] | None" = None
    """What was found, by collection: figures, and those on the teacher's index."""
    answers: Mapping[str, float] | None = None
    """F1 and exact match, 0 to 100."""
    parameters: int | None = None

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it, without what was not measured."""
        measured = {known.name: getattr(self, known.name) for known in fields(self)}
        return {name: value for name, value in measured.items() if value is not None}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote, and nothing of what else is there."""
        return cls(**{known.name: stated.get(known.name) for known in fields(cls)})


@dataclass(frozen=True, kw_only=True)
class SystemFigures:
    """What was measured of one system."""

    name: str
    label: str
    provider: str
    stage: str | None
    """The stage of a run that made it."""
    size_bytes: int
    threads: int
    footprint: Footprint
    offline: Offline
    single_stream: SingleStream
    server: HighestRate | None
    """None where it was not asked for, or nothing serves such a system."""
    by_length: Sequence[AtLength]
    placed: "Placed | None" = None
    """Nodes of its graph by provider and operator; None where no provider takes a part of a graph alone."""
    quality: Quality = Quality()

    def as_dict(self, unit: str) -> JsonObject:
        """Return it as JSON has it."""
        return {
            "name": self.name,
            "label": self.label,
            "provider": self.provider,
            "stage": self.stage,
            "size_bytes": self.size_bytes,
            "threads": self.threads,
            **self.footprint.as_dict(),
            "offline": self.offline.as_dict(unit),
            "single_stream": self.single_stream.as_dict(),
            "server": None if self.server is None else self.server.as_dict(),
            "by_length": [row.as_dict(unit) for row in self.by_length],
            **({} if self.placed is None else {"placed": {name: dict(own) for name, own in self.placed.items()}}),
            **self.quality.as_dict(),
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any], unit: str) -> Self:
        """Read what ``as_dict`` wrote."""
        plain = ("name", "label", "provider", "stage", "size_bytes", "threads")
        return cls(
            **{name: stated[name] for name in plain},
            footprint=Footprint.read(stated),
            offline=Offline.read(stated["offline"], unit),
            single_stream=SingleStream.read(stated["single_stream"]),
            server=None if stated["server"] is None else HighestRate.read(stated["server"]),
            by_length=[AtLength.read(row, unit) for row in stated["by_length"]],
            placed=stated.get("placed"),
            quality=Quality.read(stated),
        )


@dataclass(frozen=True, kw_only=True)
class BenchFigures:
    """What a benchmark measured of all systems."""

    unit: str
    """What is counted."""
    items: MeasuredOn
    rounds: int
    threads: int
    twin: Twin
    limit: Reached | None
    """Of the last system; None where that is no graph on the CPU."""
    systems: Sequence[SystemFigures]
    """The teacher, to which ratios are, first."""

    def with_quality(self, found: Iterable[Quality]) -> Self:
        """Return the figures with the quality of each system, ``found`` in the systems' order, beside its speed."""
        pairs = zip(self.systems, found, strict=True)
        return replace(self, systems=[replace(system, quality=quality) for system, quality in pairs])

    def with_story(self, story: Sequence[Mapping[str, Any]]) -> Self:
        """Return the figures with each system's quality as the story measured its stage; none where it has no row."""
        by_stage = {row["stage"]: replace(Quality.read(row), dim=None) for row in story}  # the story itself has dim
        return self.with_quality(by_stage.get(system.stage, Quality()) for system in self.systems)

    def as_dict(self) -> JsonObject:
        """Return what the ``bench`` section holds, in its order."""
        return {
            "unit": self.unit,
            "texts": self.items.as_dict(),
            "rounds": self.rounds,
            "threads": self.threads,
            "a_a": self.twin.as_dict(),
            "limit": None if self.limit is None else self.limit.as_dict(),
            "systems": [system.as_dict(self.unit) for system in self.systems],
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        unit, limit = stated["unit"], stated["limit"]
        return cls(
            unit=unit,
            items=MeasuredOn.read(stated["texts"]),
            rounds=stated["rounds"],
            threads=stated["threads"],
            twin=Twin.read(stated["a_a"]),
            limit=None if limit is None else Reached.read(limit),
            systems=[SystemFigures.read(system, unit) for system in stated["systems"]],
        )
