"""Items of one length in tokens, so that figures at a length are of that length alone."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from compressor.core.errors import TextError

Pair = tuple[str, str]
"""A question and its context."""
_LENGTH_TOKENS, _LEAST_ITEMS = 6144, 32  # so many tokens in all, and never fewer than so many items


def plain_tokenizer(path: Path) -> Tokenizer:
    """Open a ``tokenizer.json``, without padding and truncation."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def count_at(tokens: int) -> int:
    """Return how many items of a length are measured: each length has the same work."""
    return max(_LEAST_ITEMS, _LENGTH_TOKENS // tokens)


def texts_of_length(tokenizer: Tokenizer, texts: Sequence[str], tokens: int, count: int | None = None) -> list[str]:
    """Return texts of ``tokens`` tokens each, special ones included, cut from the given texts in a row.

    ``tokenizer`` is one without truncation; ``count``: how many texts, by default ``count_at(tokens)``.
    TextError if the texts hold no token.
    """
    if not any(_plain(tokenizer, text).ids for text in texts):
        raise TextError(f"{len(texts)} texts without a token; none of {tokens} tokens can be cut from them")
    wanted = tokens - tokenizer.num_special_tokens_to_add(False)
    source = itertools.cycle(texts)
    return [_cut(tokenizer, source, wanted) for _ in range(count or count_at(tokens))]


def pairs_of_length(tokenizer: Tokenizer, pairs: Sequence[Pair], tokens: int, count: int | None = None) -> list[Pair]:
    """Return questions with contexts that are ``tokens`` tokens together, special ones included.

    Contexts are cut from the given ones in a row. A question that would leave less than half of the tokens to its
    context is left out; TextError if that leaves none, or if the contexts hold no token.
    """
    if not any(_plain(tokenizer, context).ids for _, context in pairs):
        raise TextError(f"{len(pairs)} contexts without a token; none of {tokens} tokens can be cut from them")
    room = tokens - tokenizer.num_special_tokens_to_add(True)
    lengths = {question: len(_plain(tokenizer, question.strip()).ids) for question, _ in pairs}
    short = [question for question in lengths if 2 * lengths[question] <= room]
    if not short:
        raise TextError(f"{len(lengths)} questions, each of more than {room // 2} tokens: too long at {tokens} tokens")
    questions, contexts = itertools.cycle(short), itertools.cycle(context for _, context in pairs)
    asked = itertools.islice(questions, count or count_at(tokens))
    return [(question, _cut(tokenizer, contexts, room - lengths[question])) for question in asked]


def _cut(tokenizer: Tokenizer, source: Iterable[str], wanted: int) -> str:
    """Return a text of ``wanted`` tokens from as many texts of ``source`` as it takes."""
    text = ""
    ends: list[int] = []
    texts = iter(source)
    while len(ends) < wanted:
        found = len(ends)
        while found < wanted:  # about so many tokens, before all of them are looked at again
            more = next(texts)
            text = f"{text} {more}".lstrip()
            found += len(_plain(tokenizer, more).ids)
        ends = [end for _, end in _plain(tokenizer, text).offsets]
    return text[: ends[wanted - 1]]


def _plain(tokenizer: Tokenizer, text: str) -> Encoding:
    return tokenizer.encode(text, add_special_tokens=False)
