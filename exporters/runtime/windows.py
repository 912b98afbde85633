"""Texts longer than a model's limit as windows of tokens: cut between words, each one behind the prompt."""

import operator
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from compressor.core.encoder import Vectors, check_texts
from compressor.core.errors import ArtifactError, RecipeError, TextError
from compressor.core.strict_json import read_json
from exporters.runtime.words import WordTokenizer

Pooled = Literal["mean"] | bool
"""How a text's windows become its vector: as their mean, which True stands for, too; False for no windows."""
_TEXTS, _CHARACTERS = 256, 1 << 20  # tokenized at a time, at most; a longer text alone


class Windows(NamedTuple):
    """The windows of texts, a row each: those of a text one after the other, the texts in their order."""

    vectors: NDArray[Any]
    """[rows, dim]."""
    texts: NDArray[np.int64]
    """[rows]: the number of the text that each is of."""
    spans: NDArray[np.int64]
    """[rows, 2]: where each begins and ends in its text, in characters."""
    weights: NDArray[np.float32]
    """[rows]: its share of the tokens of its text's windows; 1 for a text that is one."""

    def means(self, unit: bool) -> Vectors:
        """Return the mean of each text's windows by their weights, float32 [texts, dim], where vectors are float32.

        ``unit``: of length 1 again. A text of one window keeps that window's vector as it is.
        """
        firsts = np.flatnonzero(np.diff(self.texts, prepend=-1))  # each text has a window at least
        several = np.diff(firsts, append=len(self.texts)) > 1
        if not several.any():
            return self.vectors
        means = np.add.reduceat(self.vectors * self.weights[:, None], firsts)
        if unit:
            means[several] /= np.maximum(np.linalg.norm(means[several], axis=1, keepdims=True), 1e-12)
        return means


class Window(NamedTuple):
    """A part of a text as a model reads it."""

    ids: list[int]
    """Special tokens, prompt, and the text's own."""
    text: int
    """Number of the text."""
    span: tuple[int, int]
    """Where it begins and ends in the text, in characters."""
    weight: float
    """Its share of the tokens of its text's windows, which count where they are shared in each."""


class Cut:
    """The windows of texts, cut as they are read."""

    def __init__(self, windows: Iterator[Window]) -> None:
        self._windows = windows
        self._texts: list[int] = []
        self._spans: list[tuple[int, int]] = []
        self._weights: list[float] = []

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the token ids of each window, and note the rest."""
        for window in self._windows:
            self._texts.append(window.text)
            self._spans.append(window.span)
            self._weights.append(window.weight)
            yield window.ids

    def rows(self, vectors: NDArray[Any]) -> Windows:
        """Return the windows that were read with their ``vectors``, [rows, dim]."""
        spans = np.array(self._spans, np.int64).reshape(-1, 2)
        return Windows(vectors, np.array(self._texts, np.int64), spans, np.array(self._weights, np.float32))


class _Room(NamedTuple):
    """What a window has beside the special tokens."""

    characters: int
    """Of the prompt."""
    prompt: int
    """Tokens of the prompt, at most."""
    own: int
    """Tokens of a text, at most."""
    stride: int
    """Of these, shared with the window before, at most."""


class WindowCutter:
    """Cut texts by a model's own tokenizer into windows of at most its limit."""

    def __init__(self, words: WordTokenizer, max_length: int) -> None:
        """Take the tokenizer that cuts texts at ``max_length``, and a copy that does not."""
        self._words, self._max_length, self._plain = words, max_length, words.uncut()

    def cut(self, texts: Sequence[str], prompt: str = "", stride: int = 0) -> Cut:
        """Cut texts into windows that each stand behind ``prompt`` and share at most ``stride`` tokens.

        A text within the limit is one window, of the tokens that it has without windows. RecipeError for a ``stride``
        of more than half of what a window takes, TextError for a prompt that leaves it no room, and, with its row,
        for what is no text, when that is read.
        """
        asked = len(self._plain.encode(prompt, add_special_tokens=False)) if prompt else 0
        own = self._max_length - self._plain.num_special_tokens_to_add(False) - asked
        if own < 1:
            limit = self._max_length
            raise TextError(f"prompt = {prompt!a:.80}: its {asked} tokens leave windows of {limit} no room for a text")
        return Cut(self._windows(texts, prompt, _Room(len(prompt), asked, own, _checked_stride(stride, own // 2))))

    def _windows(self, texts: Sequence[str], prompt: str, room: _Room) -> Iterator[Window]:
        number = 0
        for piece in _pieces(texts):
            check_texts(piece, number)
            prompted = [prompt + text for text in piece] if prompt else piece
            tokens = self._words.encode(prompted)
            full = [row for row, ids in enumerate(tokens) if len(ids) >= self._max_length]
            whole = dict(zip(full, self._plain.encode_batch([prompted[row] for row in full]), strict=True))
            for row, ids in enumerate(tokens):
                if row in whole and len(whole[row]) > self._max_length:
                    yield from _parts(whole.pop(row), number, room)
                else:
                    yield Window(ids, number, (0, len(piece[row])), 1.0)
                number += 1


def check_windows(windows: Any, stride: Any) -> bool:
    """Tell whether ``windows``, how they are pooled, asks for any; RecipeError for another value or a lone stride."""
    if not (windows is None or isinstance(windows, bool) or (isinstance(windows, str) and windows == "mean")):
        raise RecipeError(f"windows = {windows!a:.40}: must be False, True or 'mean'; document_windows gives rows")
    if not windows and not (isinstance(stride, int) and stride == 0):
        raise RecipeError(f"stride = {stride!a:.40}: must be 0 where windows is False; only windows share tokens")
    return bool(windows)


def gives_unit_vectors(folder: Path) -> bool:
    """Tell whether a model's last module normalises; ArtifactError where its folder does not say."""
    path = folder / "modules.json"
    try:
        return str(read_json(path)[-1]["type"]).endswith(".Normalize")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(f"{path}: not readable, or names no modules: a mean of windows needs the last") from error


def _checked_stride(stride: Any, most: int) -> int:
    try:
        number = -1 if isinstance(stride, bool) else operator.index(stride)
    except TypeError:
        number = -1
    if not 0 <= number <= most:
        raise RecipeError(f"stride = {stride!a:.40}: must be a whole number from 0 to {most}, half of a window")
    return number


def _pieces(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts some at a time, so that what is known of their tokens stays small."""
    piece: list[str] = []
    characters = 0
    for text in texts:
        length = len(text) if isinstance(text, str) else 0  # whoever takes the piece refuses another type
        if piece and (len(piece) == _TEXTS or characters + length > _CHARACTERS):
            yield piece
            piece, characters = [], 0
        piece.append(text)
        characters += length
    if piece:
        yield piece


def _parts(encoding: Encoding, number: int, room: _Room) -> Iterator[Window]:
    """Yield the windows of a prompt and a text that were tokenized whole."""
    ids, offsets, words = encoding.ids, encoding.offsets, encoding.word_ids
    inside = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
    first, end = int(inside[0]), int(inside[-1]) + 1
    before, after = ids[:first], ids[end:]
    while len(before) < first + room.prompt and offsets[len(before)][1] <= room.characters:
        before.append(ids[len(before)])
    first = len(before)
    starts = first + 1 + np.flatnonzero([one != other for one, other in pairwise(words[first:end])])
    places = list(_places(first, end, room, starts))
    total = sum(stop - start for start, stop in places)
    for start, stop in places:
        span = max(0, offsets[start][0] - room.characters), offsets[stop - 1][1] - room.characters
        yield Window([*before, *ids[start:stop], *after], number, span, (stop - start) / total)


def _places(first: int, end: int, room: _Room, words: NDArray[np.intp]) -> Iterator[tuple[int, int]]:
    """Yield where windows begin and end among a text's tokens, as many as are needed, of like length.

    They end before one of ``words``, the places where a word begins, unless a word is longer than half a window, and
    so do the tokens that they share.
    """
    while end - first > room.own:
        left = end - first - room.stride
        size = room.stride + _divided(left, _divided(left, room.own - room.stride))
        stop = first + size
        at = int(np.searchsorted(words, stop, side="right")) - 1
        if at >= 0 and words[at] > first + max(size // 2, room.stride):
            stop = int(words[at])
        yield first, stop
        first = stop - room.stride
        at = int(np.searchsorted(words, first))
        if at < len(words) and words[at] <= stop:
            first = int(words[at])
    yield first, end


def _divided(count: int, by: int) -> int:
    """Return a quotient, rounded up."""
    return -(-count // by)
