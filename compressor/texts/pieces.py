"""Pieces of long texts, so that a student sees every length that it is asked: passages, paragraphs, sentences."""

import random
import re
from collections.abc import Iterable, Iterator

_END = re.compile(
    r"(?<=[.!?\u2026])[\"')\]\u201d\u2019]*\s+(?=[\"'(\[\u201c\u2018]*[A-Z0-9\u00c0-\u00de\u0400-\u042f])"
    r"|(?<=[\u3002\uff01\uff1f])"
)
"""Between two sentences: behind a mark that ends one, where a capital, a number or a wide script's next follows."""


def with_pieces(texts: Iterable[str], most: int) -> Iterator[str]:
    """Yield each text and, of one with several sentences, also its pieces of 1 to ``most`` sentences, in a row.

    How long a piece is follows from the text alone: the same texts give the same pieces.
    """
    for text in texts:
        yield text
        sentences = sentences_of(text)
        if len(sentences) > 1:
            yield from _pieces(sentences, most, random.Random(text))


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, by their marks: a guess that is good enough to cut by."""
    found, start = [], 0
    for end in _END.finditer(text):
        found.append(text[start : end.end()].strip())
        start = end.end()
    return [sentence for sentence in (*found, text[start:].strip()) if sentence]


def _pieces(sentences: list[str], most: int, lengths: random.Random) -> Iterator[str]:
    start = 0
    while start < len(sentences):
        count = lengths.randint(1, most)
        if count < len(sentences):  # the whole text is there already
            yield " ".join(sentences[start : start + count])
        start += count
