"""Searches whose speeds are known."""

from typing import Any

import pytest

from exporters.search import trials as module
from exporters.search.contest import Ratio


def faster(monkeypatch: pytest.MonkeyPatch, speeds: dict[str, float]) -> list[str]:
    """Give rivals whose name has a word in ``speeds`` that many times the base's speed; others a little less."""
    asked = []

    def timed(base: Any, rivals: dict[str, Any], turns: int) -> dict[str, Ratio]:
        found = {}
        for name in rivals:
            asked.append(name)
            speed = max((v for word, v in speeds.items() if word in name), default=0.9)
            found[name] = Ratio(speed, speed - 0.005, speed + 0.005, turns)
        return found

    monkeypatch.setattr(module, "contest", timed)
    return asked
