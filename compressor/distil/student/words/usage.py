"""How often the tokens of a vocabulary occur in texts, and which of them must stay."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from compressor.core.errors import RecipeError
from compressor.models.sentence_model import default_prompt, transformer_of

_BATCH = 1024
_SIZES = (4000, 6000, 8000, 12_000, 16_000, 24_000, 48_000, 96_000)  # that shares are counted at

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Usage:
    """How much of some texts falls out of a vocabulary's most used tokens."""

    sizes: tuple[int, ...]
    """Ascending; the first holds what must stay alone, the last all."""
    shares: tuple[float, ...]
    """Of all occurrences, those of tokens that are spelt in pieces then."""

    @classmethod
    def of(cls, state: dict[str, Any], counts: Counts) -> "Usage":
        """Count a tokenizer.json's tokens; RecipeError where it has no smaller pieces for all of them."""
        least = len(must_stay(state, len(counts)))
        sizes = tuple(sorted({least, *(size for size in _SIZES if least < size < len(counts)), len(counts)}))
        return cls(sizes, tuple(spelt_share(counts, kept_tokens(state, counts, size)) for size in sizes))

    @property
    def least(self) -> int:
        """Return how many tokens must stay."""
        return self.sizes[0]

    def share(self, size: int) -> float:
        """Return the share of occurrences that falls out of so many tokens, in a straight line between sizes."""
        return float(np.interp(size, self.sizes, self.shares))


def token_counts(model: SentenceTransformer, texts: Sequence[str]) -> Counts:
    """Return how often each token occurs in ``texts``, int64 [vocabulary]."""
    counts = np.zeros(len(transformer_of(model).get_input_embeddings().weight), np.int64)
    prompt = default_prompt(model)
    for start in range(0, len(texts), _BATCH):
        batch = [prompt + text for text in texts[start : start + _BATCH]]
        encoded = model.tokenizer(batch, truncation=True, max_length=model.max_seq_length or 512)
        ids = np.concatenate([np.asarray(row, np.int64) for row in encoded["input_ids"]])
        counts += np.bincount(ids, minlength=len(counts))
    return counts


def kept_tokens(state: dict[str, Any], counts: Counts, size: int) -> list[int]:
    """Return the old ids of the ``size`` tokens to keep, ascending; ``state`` is a tokenizer.json.

    RecipeError for a size that is out of range, and for a tokenizer without smaller pieces.
    """
    always, parents = must_stay(state, size), _parents(state)
    check_count(always, size, len(counts))
    kept = set(always)
    known = set(_tokens(state, size).values()) | always
    for index in np.argsort(-counts, kind="stable").tolist():
        needed = _with_parents(index, parents) - kept
        if index in known and len(kept) + len(needed) <= size:
            kept |= needed
    return sorted(kept)


def check_count(always: set[int], size: int, most: int) -> None:
    """Raise RecipeError for fewer tokens than must stay, and for more than there are."""
    if not len(always) <= size <= most:
        allowed = f"{len(always)} (special tokens and single characters) to {most}"
        raise RecipeError(f"distil.vocabulary = {size}: must be {allowed}")


def must_stay(state: dict[str, Any], size: int) -> set[int]:
    """Return the ids of special tokens and of single characters, of which every other token can be spelt.

    So no word is lost: what WordPiece does not find it spells from the left, at worst a character a token. RecipeError
    for a token with a character that is no token itself, at a word's begin or inside as it stands.
    """
    tokens = _tokens(state, size)
    special = {entry["id"] for entry in state["added_tokens"]}
    if state["model"]["type"] == "WordPiece":
        inside = state["model"].get("continuing_subword_prefix", "##")
        for token, index in tokens.items():
            if index not in special and (missing := _unspelt(token, tokens, inside)):
                lost = f"{token!r} cannot be spelt, {missing!r} is no token, and words would be lost"
                raise RecipeError(f"distil.vocabulary = {size}: {lost}; leave it out")
    return special | {index for token, index in tokens.items() if _is_character(token)}


def spelt_share(counts: Counts, kept: Iterable[int]) -> float:
    """Return the share of all occurrences that are of tokens which are not kept."""
    return 1 - float(counts[list(kept)].sum()) / max(int(counts.sum()), 1)


def _unspelt(token: str, tokens: dict[str, int], inside: str) -> str:
    """Return the first character of a WordPiece token that is no token of its own; empty where all are.

    ``inside`` is what stands before a token that goes on with a word.
    """
    within, bare = token.startswith(inside), token.removeprefix(inside)
    pieces = [f"{inside}{character}" if within or place else character for place, character in enumerate(bare)]
    return next((piece for piece in pieces if piece not in tokens), "")


def _tokens(state: dict[str, Any], size: int) -> dict[str, int]:
    """Return the tokenizer's tokens with their ids."""
    kind, vocabulary = state["model"].get("type"), state["model"].get("vocab")
    if kind == "Unigram":
        return {token: index for index, (token, _) in enumerate(vocabulary)}
    if kind in ("WordPiece", "BPE"):
        return dict(vocabulary)
    raise RecipeError(f"distil.vocabulary = {size}: a tokenizer of kind {kind}; wanted WordPiece, Unigram or BPE")


def _is_character(token: str) -> bool:
    """Tell whether a token is one character, with or without its mark, or one byte."""
    bare = token.removeprefix("##").removeprefix("\u2581").removeprefix("\u0120").removesuffix("</w>")
    return len(bare) <= 1 or (len(token) == 6 and token.startswith("<0x"))


def _parents(state: dict[str, Any]) -> dict[int, tuple[int, int]]:
    """Return for each token of a BPE the two that the first of its merges joins; of other kinds, none."""
    inner, parents = state["model"], dict[int, tuple[int, int]]()
    if inner["type"] != "BPE":
        return parents
    tokens = inner["vocab"]
    for left, right in map(pair, inner["merges"]):
        parents.setdefault(tokens[left + right], (tokens[left], tokens[right]))
    return parents


def pair(merge: Any) -> tuple[str, str]:
    """Return the two tokens of a merge, in either form of a tokenizer.json."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _with_parents(index: int, parents: dict[int, tuple[int, int]]) -> set[int]:
    """Return a token and all that it is merged from."""
    found, open_ = set[int](), [index]
    while open_:
        token = open_.pop()
        if token not in found:
            found.add(token)
            open_.extend(parents.get(token, ()))
    return found
