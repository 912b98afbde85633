"""The seam: texts in, vectors out. Teacher, student, PyTorch int8 and ONNX session are all an Encoder."""

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from compressor.core.errors import RecipeError, TextError

Vectors = NDArray[np.float32]


@runtime_checkable
class Encoder(Protocol):
    """Anything that turns texts into vectors."""

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut."""
        ...

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Vectors:
        """Return float32 [len(texts), dim], rows in the order of ``texts``."""
        ...


def check_whole(name: str, value: Any) -> int:
    """Return an option that counts something; RecipeError, naming it, for what is no whole number from 1."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise RecipeError(f"{name} = {value!a:.40}: must be a whole number from 1")
    return number


def listed(texts: Iterable[str], name: str = "texts") -> Sequence[str]:
    """Return texts as a sequence, from whatever has them in an order; TextError for a single text and what has none."""
    iterator = ordered(texts, name, "a list of texts belongs")
    return texts if isinstance(texts, Sequence) else list(iterator)


def ordered(texts: Iterable[str], name: str = "texts", wanted: str = "many belong") -> Iterator[str]:
    """Return an iterator of ``texts``; TextError for a single text and for what has none, or none in an order."""
    if isinstance(texts, str):
        raise TextError(f"{name}: one text was given where {wanted}")
    try:
        if isinstance(texts, bytes | bytearray | Mapping | set | frozenset):
            raise TypeError
        return iter(texts)
    except TypeError as error:
        raise TextError(f"{name}: {type(texts).__name__} was given where {wanted}") from error


def check_texts(texts: Sequence[str], first: int = 0, name: str = "text") -> None:
    """Raise TextError, naming its row, for what is no text: another type, or half a character (a lone surrogate).

    ``first`` is the row of ``texts[0]``.
    """
    try:
        "".join(texts).encode()
    except (TypeError, UnicodeEncodeError) as error:  # which one it was is asked only where one was
        row, text = next((row, text) for row, text in enumerate(texts, start=first) if not _is_text(text))
        if not isinstance(text, str):
            raise TextError(f"{name} {row}: {type(text).__name__} was given where a text belongs") from error
        raise TextError(f"{name} {row}: holds half a character (a lone surrogate), which has no UTF-8") from error


def _is_text(text: Any) -> bool:
    return isinstance(text, str) and not any("\ud800" <= character <= "\udfff" for character in text)


def length_sorted_batches(
    lengths: NDArray[np.int64], batch_size: int, most_tokens: int | None = None, equal: bool = False
) -> list[NDArray[np.intp]]:
    """Cut row numbers into batches of like length, longest first, so that little padding is computed.

    A batch has at most ``batch_size`` rows and, with the padding, at most ``most_tokens`` tokens, but one row at least;
    where ``equal``, its rows have one length.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(lengths[order])) + 1, len(order)) if equal else np.array([len(order)])
    batches = []
    start = 0
    for end in ends:
        while start < end:
            rows = batch_size
            if most_tokens is not None:
                rows = max(1, min(rows, most_tokens // max(1, int(lengths[order[start]]))))
            batches.append(order[start : min(start + rows, end)])
            start += len(batches[-1])
    return batches
