"""What a row of a run on a card holds, with types: what each system reached, or why it was not measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from benchmarks.cuda.plan import Cell
from benchmarks.speed.figures import Ratio
from compressor.core.figures import Figures
from compressor.core.strict_json import JsonObject


@dataclass(frozen=True)
class Timed:
    """What a system reached."""

    name: str
    rate: float
    """Texts a second: the median of the rounds."""
    pass_ms_p50: float
    """Milliseconds of a pass, likewise."""
    rounds: Sequence[float]
    """The rate in each round."""
    ratio: Ratio | None
    """Against the baseline; None where that has no figures."""

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        figures = {"name": self.name, "texts_per_second": self.rate, "pass_ms_p50": self.pass_ms_p50}
        against = {} if self.ratio is None else self.ratio.as_dict()
        return {**figures, "rounds": list(self.rounds), **against}

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        ratio = Ratio.read(stated) if "ratio" in stated else None
        return cls(stated["name"], stated["texts_per_second"], stated["pass_ms_p50"], stated["rounds"], ratio)


@dataclass(frozen=True)
class Missed(Figures):
    """A system that was not measured."""

    name: str
    reason: str


@dataclass(frozen=True)
class Row:
    """All systems on the same texts or ids."""

    cell: Cell
    texts: int
    """Of one pass."""
    rounds: int
    systems: Sequence[Timed | Missed]
    machine: Mapping[str, str] = field(default_factory=dict)
    """The card, its driver and versions."""
    seconds: float = 0.0
    """What the row took."""

    @property
    def timed(self) -> dict[str, Timed]:
        """Return the systems that were measured, by name."""
        return {system.name: system for system in self.systems if isinstance(system, Timed)}

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        cell = self.cell
        return {
            "key": cell.key,
            "mode": cell.mode,
            "batch": cell.batch,
            "tokens": cell.tokens,
            "texts": self.texts,
            "rounds": self.rounds,
            "systems": [system.as_dict() for system in self.systems],
            "machine": dict(self.machine),
            "seconds": self.seconds,
        }

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote; LookupError where something is missing."""
        cell = Cell(stated["mode"], stated["batch"], stated["tokens"])
        systems = [Missed.read(one) if "reason" in one else Timed.read(one) for one in stated["systems"]]
        return cls(cell, stated["texts"], stated["rounds"], systems, stated["machine"], stated["seconds"])
