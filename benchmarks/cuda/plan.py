"""What is measured, in the order of its weight: when time runs out, what matters least is left."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from compressor.core.config import Config

Mode = Literal["ids", "text", "recorded"]
MODES: tuple[Mode, ...] = ("ids", "text")
"""Token ids in, or texts in; vectors out, on the host.

Recorded launches (CUDA graphs) have rows of their own, behind all others: one that cannot be recorded may leave a card
on which nothing else runs.
"""
_MOST_TEXTS = 2048  # of one pass
_LARGE = 1 << 17  # tokens of a batch whose states fill gigabytes of each session


@dataclass(frozen=True)
class Cell:
    """One row of the results: how much is computed at once."""

    mode: Mode
    batch: int
    tokens: int
    """Of each text."""

    @property
    def key(self) -> str:
        return f"{self.mode} {self.batch} x {self.tokens}"

    @property
    def texts(self) -> int:
        """How many texts one pass has: of ids one batch; of texts some batches, so that one is cut while one runs."""
        if self.mode != "text" or self.batch == 1:
            return self.batch
        return max(self.batch, min(4 * self.batch, _MOST_TEXTS))

    @property
    def is_large(self) -> bool:
        return self.batch * self.tokens >= _LARGE


class Plan(Config):
    """The rows, and how each is measured."""

    batches: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 256, 1024, 32)
    """Texts in a batch, those that matter most first."""
    lengths: Annotated[tuple[Annotated[int, Field(ge=8)], ...], Field(min_length=1)] = (128, 16, 256)
    """Tokens of a text, likewise."""
    rounds: Annotated[int, Field(ge=1)] = 5
    """In each, the systems take turns."""
    seconds: Annotated[float, Field(gt=0)] = 0.1
    """Of a turn, at least."""
    recorded_batch: Annotated[int, Field(ge=1)] = 32
    """Largest batch that recorded launches are measured at: larger ones are not bound by launches."""

    def cells(self, most_tokens: int) -> list[Cell]:
        """List the rows by their weight; lengths that the models do not read are left out."""
        ranked = sorted(
            (rank + place, place, batch, tokens)
            for place, tokens in enumerate(self.lengths)
            for rank, batch in enumerate(self.batches)
            if tokens <= most_tokens
        )
        shapes = [(batch, tokens) for _, _, batch, tokens in ranked]
        plain = [Cell(mode, *shape) for shape in shapes for mode in MODES]
        return plain + [Cell("recorded", *shape) for shape in shapes if shape[0] <= self.recorded_batch]


@dataclass
class Budget:
    """Seconds that a run may take, and what its rows have taken."""

    seconds: float | None
    begun: float
    longest: float = 0.0

    def allows(self, now: float) -> bool:
        """Tell whether one more row fits, as long as the longest so far."""
        return self.seconds is None or now - self.begun + self.longest <= self.seconds
