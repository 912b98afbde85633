"""What waits for a batch: an item, tokenized."""

from typing import Any, NamedTuple


class Prepared(NamedTuple):
    """A text's tokens or a question's windows, and the room that they take in a batch."""

    rows: int
    """Rows of a batch."""
    longest: int
    """Tokens of the longest row."""
    work: Any
    """What is computed."""
