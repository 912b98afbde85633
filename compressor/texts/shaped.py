"""What is learnt from, made of the texts as they were read: their prompts before them, and pieces of the long ones."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from compressor.texts.mixing import folded, mix
from compressor.texts.pieces import with_pieces
from compressor.texts.reading import Reading
from compressor.texts.textstore import TextStore, TextWriter


@dataclass(frozen=True)
class Shape:
    """How training texts differ from those that were read."""

    prompts: tuple[str, ...]
    """What is put before each text of a source, one a source."""
    pieces: int | None = None
    """The most sentences of a piece; None: no pieces."""

    @property
    def changes(self) -> bool:
        return any(self.prompts) or self.pieces is not None

    def prompted(self, texts: Sequence[str], labels: Sequence[int]) -> list[str]:
        """Return texts with the prompts of the sources that ``labels`` number."""
        return [self.prompts[label] + text for text, label in zip(texts, labels, strict=True)]

    def write(self, whole: TextStore, kept_out: Iterable[str], seed: int, folder: Path) -> dict[str, Any]:
        """Write what ``whole`` gives into ``folder`` as a TextStore; return what to note of it.

        With pieces, all in one random order; none that is alike to a text ``kept_out`` for measuring.
        """
        if self.pieces is None:
            return self._with_prompts(whole, folder)
        known = {folded(text.encode()) for text in kept_out}
        sources = range(len(self.prompts))
        readings = [
            Reading(str(source), "", int(whole.lengths.sum()), partial(self._cut, whole, source, known))
            for source in sources
        ]
        (plain := folder / "plain").mkdir()
        mix(readings, None, seed, plain)
        noted = self._with_prompts(TextStore(plain), folder)
        shutil.rmtree(plain)
        return noted | {"pieces": len(TextStore(folder)) - len(whole)}

    def _cut(self, whole: TextStore, source: int, known: set[bytes]) -> Iterator[str]:
        assert self.pieces is not None
        texts = (text for text, label in whole.labelled() if label == source)
        return (text for text in with_pieces(texts, self.pieces) if folded(text.encode()) not in known)

    def _with_prompts(self, texts: TextStore, folder: Path) -> dict[str, Any]:
        with TextWriter(folder) as writer:
            for text, label in texts.labelled():
                writer.add((self.prompts[label] + text).encode(), label)
        return {"pieces": 0}
