"""A time as it is written in recipes and options: 90s, 10m, 1.5h."""

import re
from typing import Annotated

from pydantic import AfterValidator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(text: str) -> float:
    """Return the seconds of a duration; ValueError for what is none, or takes no time."""
    found = _DURATION.fullmatch(text)
    if found is None or not float(found[1]):
        raise ValueError("must be a number above 0 with s, m or h behind it, as 10m")
    return float(found[1]) * _SECONDS[found[2]]


def _is_duration(text: str) -> str:
    seconds_of(text)
    return text


Duration = Annotated[str, AfterValidator(_is_duration)]
"""A field that holds one."""
