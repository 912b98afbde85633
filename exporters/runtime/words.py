"""Tokenization by words seen before: what BERT's tokenizer gives, in a sixth of its time.

BERT's tokenizer cuts words one by one: a text of Latin letters is split into words here, and each word is cut once, by
the tokenizer itself. Any other text, and any text of another kind of tokenizer, goes to the tokenizer whole.
"""

import json
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from typing import Any

from tokenizers import Tokenizer

_LETTERS = "0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"  # with accents or without: none of them ends a word
_ASCII_MARKS = r"!-/:-@\[-`{-~"
_MARKS = _ASCII_MARKS + "\u00a1\u00ab\u00b7\u00bb\u00bf\u2013\u2014\u2018\u2019\u201c-\u201e\u2026"  # each is a word
_WORDS = re.compile(f"[{_LETTERS}]+|[{_MARKS}]")
_PLAIN = re.compile(f"[ {_LETTERS}{_MARKS}]*")
_MOST = 1 << 18  # words kept, some 50 MB
_LONGEST = 100  # characters of a word that is kept


def cutting_side(tokenizer: Tokenizer) -> str:
    """Return the side that a tokenizer cuts long texts on, right where it does not say."""
    return str((tokenizer.truncation or {}).get("direction", "right"))


class WordTokenizer:
    """Token ids of texts, as a tokenizer with its truncation gives them. Threads may share it."""

    def __init__(self, tokenizer: Tokenizer, max_length: int) -> None:
        """Take a tokenizer that truncates at ``max_length`` tokens and does not pad."""
        self._tokenizer = tokenizer
        self.side = cutting_side(tokenizer)
        self._known = _Known(tokenizer)
        self._around = _around(tokenizer) if _cuts_words(tokenizer) else None
        self._max_length = max_length

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, special tokens included."""
        if self._around is None:
            return self._whole(texts)
        before, after, special = self._around
        room, of_word = self._max_length - len(before) - len(after), self._known.__getitem__
        encoded: list[list[int]] = []
        rest: list[int] = []
        for row, text in enumerate(texts):
            plain = text.isprintable() if text.isascii() else _PLAIN.fullmatch(text)
            if plain and not special(text):
                ids = chain.from_iterable(map(of_word, _WORDS.findall(text)))
                encoded.append(before + self._cut(list(ids), room) + after)
            else:
                rest.append(row)
                encoded.append([])
        for row, text_ids in zip(rest, self._whole([texts[row] for row in rest]), strict=True):
            encoded[row] = text_ids
        return encoded

    @property
    def vocabulary(self) -> int:
        """How many tokens there are: their ids are below."""
        return int(self._tokenizer.get_vocab_size())

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, special ones included, were it not cut."""
        return [len(encoding) for encoding in self._uncut.encode_batch_fast(list(texts))]

    @cached_property
    def _uncut(self) -> Tokenizer:
        return self.uncut()

    def uncut(self) -> Tokenizer:
        """Return a copy of the tokenizer that cuts no text."""
        tokenizer: Tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.no_truncation()
        return tokenizer

    def _cut(self, ids: list[int], room: int) -> list[int]:
        return ids[max(0, len(ids) - room) :] if self.side == "left" else ids[:room]

    def _whole(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]


class _Known(dict[str, tuple[int, ...]]):
    """The tokens of words; those of a new one are asked for."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)
        if len(word) <= _LONGEST:
            if len(self) >= _MOST:
                self.clear()
            self[word] = ids
        return ids


def _cuts_words(tokenizer: Tokenizer) -> bool:
    """Tell whether a text's tokens are those of its words: BERT's normalizer, its words, and their pieces."""
    stated = json.loads(tokenizer.to_str())
    parts = [stated.get(name) or {} for name in ("normalizer", "pre_tokenizer", "model")]
    kinds = [part.get("type") for part in parts]
    return kinds == ["BertNormalizer", "BertPreTokenizer", "WordPiece"] and bool(parts[0].get("clean_text"))


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int], Callable[[str], Any]] | None:
    """Return the ids before and after a text's own, and what tells whether a text may hold an added token.

    None where these cannot be told from the tokenizer.
    """
    own, whole = tokenizer.encode("a", add_special_tokens=False).ids, tokenizer.encode("a").ids
    at = next((i for i in range(len(whole)) if whole[i : i + len(own)] == own), None)
    first = {token.content[:1] for token in tokenizer.get_added_tokens_decoder().values()}
    if not own or at is None or not all(re.fullmatch(f"[{_ASCII_MARKS}]", character) for character in first):
        return None
    before, after = whole[:at], whole[at + len(own) :]
    if tokenizer.encode("").ids != before + after:
        return None
    any_first = re.compile(f"[{re.escape(''.join(sorted(first)))}]") if first else re.compile("(?!)")
    return before, after, any_first.search
