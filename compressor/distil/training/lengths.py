"""How long the texts were that a student was trained on, beside how long a text it reads."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from compressor.core.figures import Figures


@dataclass(frozen=True)
class Lengths(Figures):
    """Tokens of a training's texts, special ones included."""

    cut_at: int
    """Longer texts were cut here."""
    p99: int
    """99 of 100 texts had no more, as they were cut."""
    limit: int
    """Tokens of a text that the student reads."""

    @property
    def line(self) -> str | None:
        """Say so where the training was shorter than the limit: cut below it, or of texts of half of it at most."""
        if self.cut_at >= self.limit and 2 * self.p99 > self.limit:
            return None
        rest = "" if self.p99 == self.cut_at else " (99 % of them)"
        trained = f"trained on texts of at most {self.p99} tokens{rest}"
        return f"{trained}; it reads {self.limit}: agreement by length says what it keeps of longer ones"


def lengths_of(seen: Counter[int], cut_at: int | None, limit: int | None) -> Lengths | None:
    """Return the lengths of a training by how often each was ``seen``; None of a student without a limit.

    Where none was, as of a static student, no more is known than where texts were cut.
    """
    if cut_at is None or limit is None:
        return None
    if not seen:
        return Lengths(cut_at, cut_at, limit)
    tokens, counts = zip(*sorted(seen.items()), strict=True)
    return Lengths(cut_at, tokens[int(np.searchsorted(np.cumsum(counts), 0.99 * seen.total()))], limit)
