"""The time of a training that is to end at a given time."""

import time
from pathlib import Path

from compressor.artifact.folder import noted_seconds, write_json

_SPARE = 0.98
"""Of a time budget is trained in; the rest is for what is no step."""


class Clock:
    """The time that a training with a budget has used, kept with its checkpoints."""

    def __init__(self, path: Path, budget: float | None) -> None:
        self.path, self.budget = path, budget
        self.started = time.monotonic()

    def start(self) -> None:
        """Begin to count, from the time that was used up to the last checkpoint."""
        self.started = time.monotonic()
        if self.budget is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.started -= noted_seconds(self.path)

    def save(self) -> None:
        """Note the time used beside the checkpoint that was just written."""
        if self.budget is not None:
            write_json(self.path, {"seconds": time.monotonic() - self.started})

    def share(self) -> float:
        """Return how much of the budget is used, 0 to 1 and beyond; 0 without one."""
        return 0.0 if self.budget is None else (time.monotonic() - self.started) / (_SPARE * self.budget)

    def left(self) -> float:
        """Return the seconds that are left of the budget."""
        return 0.0 if self.budget is None else _SPARE * self.budget * max(0.0, 1 - self.share())
