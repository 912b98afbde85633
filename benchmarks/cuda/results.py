"""The results of a run, on disk after every row: what is cut off loses no more than one, and goes on there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from benchmarks.cuda.plan import Cell
from benchmarks.speed.figures import Ratio
from compressor.artifact.folder import write_json
from compressor.core.errors import ArtifactError, RecipeError, storage
from compressor.core.figures import Figures
from compressor.core.strict_json import JsonObject, read_json


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
        return {
            "name": self.name,
            "texts_per_second": self.rate,
            "pass_ms_p50": self.pass_ms_p50,
            "rounds": list(self.rounds),
            **({} if self.ratio is None else self.ratio.as_dict()),
        }

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


class Results:
    """One file of results."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        """Open ``path``, or begin it; ``head`` says what is measured, and must be that of the rows already there.

        RecipeError for a file of other material, or of a rehearsal where this is none, and the other way round.
        """
        self.path, self._head = path, dict(head)
        self.rows: list[Row] = []
        self.about: JsonObject = {}
        """What was looked at before the rows."""
        if path.exists():
            self._go_on()

    def _go_on(self) -> None:
        try:
            held: Any = read_json(self.path)
            same = {name: held[name] for name in ("material", "rehearsal")}
            rows = [Row.read(row) for row in held["rows"]]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ArtifactError(f"{self.path}: not results of such a run: {error}") from error
        for name, value in same.items():
            if value != self._head[name]:
                raise RecipeError(f"{self.path}: its {name} is another than this run's; give a file of its own")
        self.rows = rows
        self.about = {name: value for name, value in held.items() if name not in (*self._head, "rows")}

    def missing(self, cells: Sequence[Cell], machine: Mapping[str, str]) -> list[Cell]:
        """Return the cells without a row of this machine; one of another card or version is measured again."""
        done = {row.cell.key for row in self.rows if row.machine == dict(machine)}
        return [cell for cell in cells if cell.key not in done]

    def add(self, row: Row, order: Sequence[Cell]) -> None:
        """Put a row in its place, and write all of them."""
        places = {cell.key: place for place, cell in enumerate(order)}
        kept = [one for one in self.rows if one.cell.key != row.cell.key]
        self.rows = sorted([*kept, row], key=lambda one: places.get(one.cell.key, len(places)))
        self.write()

    def write(self) -> None:
        """Write all of it, in one rename."""
        with storage(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {**self._head, **self.about, "rows": [row.as_dict() for row in self.rows]})
