"""Question and context as windows of tokens that a model can read, each token's place in the context kept."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tokenizers import Encoding, Tokenizer

from compressor.answering.questions.scores import normalize
from compressor.answering.questions.squad import Answer, Question
from compressor.core.config import Config
from compressor.core.errors import ModelError, TextError
from compressor.core.progress import say

Ids = NDArray[np.int64]
Read = Literal["exactly", "cut", "otherwise"]
_READS: tuple[Read, ...] = get_args(Read)
_OTHERWISE = 0.01  # of the answers may be read otherwise than they stand; a sound tokenizer has none
_BLOCK = 512  # questions tokenized at a time
_WORD_START, _WORD_END = re.compile(r"\S+\Z"), re.compile(r"\S+")


class Cutting(Config):
    """How a long context is cut into windows."""

    max_length: Annotated[int, Field(ge=16)] = 384
    """Tokens of a window: question, special tokens and a part of the context."""
    stride: Annotated[int, Field(ge=0)] = 128
    """Tokens of the context that two windows share, so that an answer at the border stands whole in one of them."""
    max_question: Annotated[int, Field(ge=1)] = 64
    """Tokens of a question, at most; a longer one is refused, with its id."""


@dataclass(frozen=True)
class Window:
    """One window of a question: the tokens and, of those of the context, their places in it."""

    question: int
    """Number of the question."""
    ids: Ids
    """int64 [tokens]."""
    types: Ids
    """int64 [tokens]: 0 for the question's part, 1 for the context's, as the tokenizer has it."""
    first: int
    """Number of the first token of the context."""
    offsets: NDArray[np.int32]
    """int32 [tokens of the context, 2]: where each begins and ends in the context, in characters."""

    @property
    def tokens(self) -> slice:
        """The tokens of the context."""
        return slice(self.first, self.first + len(self.offsets))

    @property
    def valid(self) -> NDArray[np.bool_]:
        """bool [tokens]: where an answer may begin or end: the context, and the first token for no answer."""
        inside = np.zeros(len(self.ids), bool)
        inside[self.tokens] = inside[0] = True
        return inside

    def place(self, start: int, end: int) -> tuple[int, int]:
        """Return the first and last token of the characters ``start`` to ``end``; (0, 0) where not all are here.

        A token that reaches over an end is taken in: it cannot be parted.
        """
        if not len(self.offsets) or start < self.offsets[0, 0] or end > self.offsets[-1, 1]:
            return 0, 0
        begin = int(np.searchsorted(self.offsets[:, 1], start, side="right"))
        last = int(np.searchsorted(self.offsets[:, 0], end, side="left")) - 1
        return (self.first + begin, self.first + last) if begin <= last else (0, 0)


class Cutter:
    """Cut questions and contexts into windows with a model's own tokenizer."""

    def __init__(self, tokenizer: Tokenizer, cutting: Cutting, limit: int | None = None) -> None:
        """Copy ``tokenizer``; ``limit`` is the model's own length. TextError for windows that leave no room."""
        self.cutting = cutting
        self.max_length = min(cutting.max_length, limit or cutting.max_length)
        self.tokenizer: Tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self.tokenizer.no_padding()
        special = int(self.tokenizer.num_special_tokens_to_add(is_pair=True))
        room = self.max_length - special - cutting.max_question
        if room <= cutting.stride:
            needed = cutting.stride + special + cutting.max_question + 1
            raise TextError(
                f"reading.max_length = {self.max_length}: a question of {cutting.max_question} tokens leaves {room} "
                f"for the context, of which windows share {cutting.stride}; at least {needed} are needed"
            )
        self.tokenizer.enable_truncation(self.max_length, stride=cutting.stride, strategy="only_second")
        self._plain: Tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._plain.no_padding()
        self._plain.no_truncation()

    @classmethod
    def open(cls, folder: Path, cutting: Cutting, limit: int | None = None) -> "Cutter":
        """Read ``tokenizer.json`` of a model's folder; ModelError where there is none."""
        path = folder / "tokenizer.json"
        try:
            return cls(Tokenizer.from_file(str(path)), cutting, limit)
        except TextError:
            raise
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise ModelError(f"{path}: no readable tokenizer of the tokenizers library") from error

    def check(self, questions: Sequence[Question]) -> None:
        """Raise TextError for a question that is too long, with its id, and for answers that the tokens do not give.

        An answer that begins or ends inside a token is read with the rest of it, which cannot be parted; how many
        these are is said. Where more than a few are read otherwise, the tokenizer's places of tokens are wrong.
        """
        self._check_lengths(questions)
        answered = [question for question in questions if question.answers]
        counts = dict.fromkeys(_READS, 0)
        example = ""
        for start in range(0, len(answered), _BLOCK):
            block = answered[start : start + _BLOCK]
            encoded = self._plain.encode_batch([(question.text.strip(), question.context) for question in block])
            for question, whole in zip(block, (_window(0, part) for part in encoded), strict=True):
                for answer in question.answers:
                    counts[read := _reads(whole, question.context, answer)] += 1
                    example = example or (f' (question "{question.id}")' if read == "otherwise" else "")
        share, total = counts["otherwise"], sum(counts.values())
        if share > _OTHERWISE * total:
            raise TextError(
                f"{share:,} of {total:,} answers ({share / total:.1%}) are not what their tokens read{example}: the "
                f"tokenizer's offsets are wrong; at most {_OTHERWISE:.0%} may be"
            )
        if inexact := share + counts["cut"]:
            say(f"  {inexact:,} of {total:,} answers ({inexact / total:.1%}) begin or end inside a token")

    def _check_lengths(self, questions: Sequence[Question]) -> None:
        asked = [question.text.strip() for question in questions]
        for question, encoded in zip(questions, self._plain.encode_batch(asked, add_special_tokens=False), strict=True):
            if len(encoded.ids) > self.cutting.max_question:
                raise TextError(
                    f'question "{question.id}": {len(encoded.ids)} tokens; at most {self.cutting.max_question} are '
                    "read (reading.max_question)"
                )

    def cut(self, questions: Sequence[Question]) -> list[Window]:
        """Return the windows of all questions in their order, at least one each; TextError for a question too long."""
        self._check_lengths(questions)
        pairs = [(question.text.strip(), question.context) for question in questions]
        windows = []
        for number, encoded in enumerate(self.tokenizer.encode_batch(pairs)):
            windows += [_window(number, part) for part in (encoded, *encoded.overflowing)]
        return windows


def _reads(window: Window, context: str, answer: Answer) -> Read:
    """Tell how the tokens of a whole context give an answer: exactly, but for what the metric evens out, or not."""
    start, end = answer.start, answer.start + len(answer.text)
    first, last = (token - window.first for token in window.place(start, end))
    if first < 0:
        return "otherwise"
    begin, stop = int(window.offsets[first, 0]), int(window.offsets[last, 1])
    text = context[begin:stop]
    if normalize(text) == normalize(answer.text):
        return "exactly"
    begin, stop = begin + len(text) - len(text.lstrip()), stop - len(text) + len(text.rstrip())
    words = _WORD_START.search(context[:start]), _WORD_END.match(context, end)
    around = (words[0].start() if words[0] else start), (words[1].end() if words[1] else end)
    return "cut" if around[0] <= begin <= start and end <= stop <= around[1] else "otherwise"


def _window(number: int, encoded: Encoding) -> Window:
    inside = [i for i, sequence in enumerate(encoded.sequence_ids) if sequence == 1]
    places = encoded.offsets  # made anew each time that it is asked for
    offsets = np.array([places[i] for i in inside], np.int32).reshape(-1, 2)
    first = inside[0] if inside else len(encoded.ids)
    return Window(number, np.array(encoded.ids, np.int64), np.array(encoded.type_ids, np.int64), first, offsets)


def labels(windows: Sequence[Window], questions: Sequence[Question]) -> Ids:
    """Return the first and last token of each answer to a window's question, int64 [windows, answers, 2].

    Of the answers, those that stand whole in the window, each place once; (0, 0) where there is none. Windows with
    fewer answers than others are filled up with -1.
    """
    found = []
    for window in windows:
        stated = questions[window.question].answers
        places = dict.fromkeys(window.place(answer.start, answer.start + len(answer.text)) for answer in stated)
        found.append([place for place in places if place != (0, 0)] or [(0, 0)])
    made = np.full((len(windows), max(map(len, found), default=1), 2), -1, np.int64)
    for row, spans in zip(made, found, strict=True):
        row[: len(spans)] = spans
    return made


def batches(windows: Sequence[Window], size: int) -> Iterator[list[int]]:
    """Yield the numbers of windows of like length, longest first, ``size`` at a time."""
    order = sorted(range(len(windows)), key=lambda i: -len(windows[i].ids))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def padded(windows: Sequence[Window], pad: int = 0) -> dict[str, Any]:
    """Return ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 [windows, longest], padded right."""
    width = max(len(window.ids) for window in windows)
    features = {name: np.zeros((len(windows), width), np.int64) for name in ("attention_mask", "token_type_ids")}
    ids = np.full((len(windows), width), pad, np.int64)
    for row, window in enumerate(windows):
        count = len(window.ids)
        ids[row, :count], features["attention_mask"][row, :count] = window.ids, 1
        features["token_type_ids"][row, :count] = window.types
    return {"input_ids": ids, **features}
