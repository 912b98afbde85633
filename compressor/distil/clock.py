"""The time of a training that is to end at a given time."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from compressor.artifact import write_json

_SPARE = 0.97
"""Of a time budget is planned with; the rest is for what is no step."""


class Clock:
    """The plan of a training with a time budget, kept with its checkpoints: how many steps, and the time used."""

    def __init__(self, path: Path, budget: float | None) -> None:
        self.path, self.budget = path, budget
        self.used, self.started = 0.0, time.monotonic()
        self.steps = 0

    def plan(self, step_seconds: Callable[[], float]) -> int:
        """Return the steps that fit in the budget, as first planned; 0 without a budget."""
        if self.budget is None:
            return 0
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            self.steps, self.used = int(kept["steps"]), float(kept["seconds"])
        except (OSError, ValueError, LookupError, TypeError):
            self.steps = max(1, int(_SPARE * self.budget / step_seconds()))
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic() - self.used
        self.save()
        return self.steps

    def save(self) -> None:
        """Note the time used beside the checkpoint that was just written."""
        if self.budget is not None:
            write_json(self.path, {"steps": self.steps, "seconds": time.monotonic() - self.started})

    def share(self) -> float:
        """Return how much of the budget is used, 0 to 1 and beyond; 0 without one.

        On time, the steps run out first: the learning rate then follows them alone, so that a training resumed
        gives what one left alone gives.
        """
        return 0.0 if self.budget is None else (time.monotonic() - self.started) / self.budget
