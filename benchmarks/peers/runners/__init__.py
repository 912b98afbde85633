"""How a worker runs one peer, a module each. Imported in the peer's own environment: nothing of this project but
``ours`` is there, only NumPy and the peer itself.

A module has ``PACKAGES``, whose versions are told; ``load``, which opens a Running; and, where the peer needs the
teacher in a form of its own, ``prepare``, which writes that form into a folder. A Running that knows of prompts has
``encode_query`` and ``encode_document``, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Setting = Mapping[str, Any]


class Running(Protocol):
    """A peer that is loaded."""

    dim: int
    max_length: int
    settings: Sequence[Setting]
    """What is tried beside the batch size, such as the number of streams; the first uses all cores for one text."""
    size_bytes: int
    """Of the files it loads."""
    threads: int
    """That it computes on, as its library has them."""

    def use(self, setting: Setting) -> None:
        """Change over to one of ``settings``."""

    def encode(self, texts: list[str], batch_size: int) -> Vectors:
        """Return float32 [len(texts), dim], in the order of ``texts``."""
        ...
