"""The results of a run, on disk after every row: what is cut off loses no more than one, and goes on there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cuda.figures import Row
from benchmarks.cuda.plan import Cell
from compressor.artifact.folder import write_json
from compressor.core.errors import ArtifactError, RecipeError, storage
from compressor.core.strict_json import JsonObject, read_json


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
