"""Text files: every line is a row, an empty one too."""

from collections.abc import Iterator
from dataclasses import dataclass

from compressor.texts.rows.base import Block, LineFile, Mark
from compressor.texts.rows.chunks import chunks, raw_lines


@dataclass(frozen=True)
class TextRows(LineFile):
    """A UTF-8 file, one text a line."""

    def blocks(self, mark: Mark) -> Iterator[Block]:
        for chunk in chunks(self.path, mark.offset):
            texts = chunk.text.removesuffix("\n").split("\n")
            if "\r" in chunk.text:
                texts = [text.removesuffix("\r") for text in texts]
            yield Block(texts, None)

    def _starts(self) -> Iterator[tuple[int, int]]:
        return ((offset, line) for offset, line, _ in raw_lines(self.path))
