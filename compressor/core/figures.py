"""Figures with types: written as a JSON object, and read again."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from compressor.core.strict_json import JsonObject


@dataclass(frozen=True)  # no Config: a process whose memory is measured loads no pydantic
class Figures:
    """A JSON object with a key a field; a kind whose JSON is written otherwise says so itself."""

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return asdict(self)

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote, and nothing of what else is there; LookupError where a figure is missing."""
        return cls(**{known.name: stated[known.name] for known in fields(cls)})
