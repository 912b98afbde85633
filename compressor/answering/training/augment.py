"""More questions out of few: contexts with some words replaced, answers left where they stand."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from transformers import AutoModelForMaskedLM

from compressor.answering.questions.squad import Answer, Question, Questions
from compressor.answering.readers.base import open_base, tokenizer_of
from compressor.answering.readers.model import check_transformer
from compressor.core.config import Config, Seed
from compressor.core.errors import ModelError, first_line
from compressor.core.progress import track
from compressor.models.loading import whole_weights

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_BLOCK = 1024  # words compared with the vocabulary at a time
_MASKED_BATCH, _MASKED_TOKENS = 32, 128  # masked texts run at a time, and the tokens around a mask
_TRIES = 4  # draws for a copy that is not there yet


class Augment(Config):
    """Replace words of the contexts by likely ones (TinyBERT: Jiao et al. 2020, arXiv:1909.10351)."""

    factor: Annotated[int, Field(ge=1)] = 5
    """Copies of each context, with its questions, at most; the context as it was comes besides."""
    p: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Chance of a word to be replaced."""
    candidates: Annotated[int, Field(ge=1)] = 15
    """Words that one may be replaced by; each is as likely."""
    stop_words: bool = False
    """Replace stop words of English, too."""
    numbers: bool = False
    """Replace words with digits, too."""
    seed: Seed = 0
    """Seed of what is replaced."""

    def run(self, questions: Questions, candidates: "Candidates") -> Questions:
        """Return ``questions`` and their copies, each with an id of its own: the question's, ``~`` and a number.

        Words that an answer reaches into stay, and the answers' places are moved along. No copy is equal to its
        original or to another; where nothing can be replaced, there is none.
        """
        made = list(questions)
        asked: dict[str, list[Question]] = {}
        for question in questions:
            asked.setdefault(question.context, []).append(question)
        taken = {question.id for question in questions}
        random = np.random.default_rng(self.seed)
        with track("augmenting", len(asked), "contexts") as advance:
            for context, group in asked.items():
                for number, (copied, moves) in enumerate(self._copies(context, group, candidates, random), start=1):
                    for question in group:
                        answers = tuple(Answer(answer.text, moves.moved(answer.start)) for answer in question.answers)
                        made.append(Question(_free(f"{question.id}~{number}", taken), question.text, copied, answers))
                advance(1)
        return Questions(made, questions.version)

    def _copies(
        self, context: str, asked: Sequence[Question], candidates: "Candidates", random: np.random.Generator
    ) -> "Iterator[tuple[str, Moves]]":
        """Yield distinct copies of a context, each with how its characters moved."""
        answers = [(a.start, a.start + len(a.text)) for question in asked for a in question.answers]
        words = [
            match.span()
            for match in _WORD.finditer(context)
            if self._may_change(match[0]) and not _in(match.span(), answers)
        ]
        found = candidates.of(context, words, self.candidates)
        words, found = _where_any(words, found)
        seen = {context}
        for _ in range(self.factor if words else 0):
            for _ in range(_TRIES):
                changes = {
                    words[i]: _cased(context[slice(*words[i])], found[i][int(random.integers(len(found[i])))])
                    for i in np.flatnonzero(random.random(len(words)) < self.p)
                }
                copied = _replaced(context, changes)
                if copied not in seen:
                    seen.add(copied)
                    yield copied, Moves.of(changes)
                    break

    def _may_change(self, word: str) -> bool:
        if not self.numbers and any(letter.isdigit() for letter in word):
            return False
        return self.stop_words or word.lower() not in ENGLISH_STOP_WORDS


@dataclass(frozen=True)
class Moves:
    """Where the characters of a text went: behind each replaced word, all that follows moves by as much."""

    ends: list[int]
    by: list[int]

    @classmethod
    def of(cls, changes: Mapping[tuple[int, int], str]) -> "Moves":
        """Take replaced words, by where they stood."""
        ordered = sorted(changes.items())
        return cls([end for (_, end), _ in ordered], [len(word) - (end - start) for (start, end), word in ordered])

    def moved(self, place: int) -> int:
        """Return where the character at ``place``, in no replaced word, went."""
        return place + sum(by for end, by in zip(self.ends, self.by, strict=True) if end <= place)


class Candidates:
    """Words that may stand for another: its nearest neighbours among the whole words of a model's vocabulary.

    A word of several pieces has the mean of their vectors. Where there is a masked language model, it says for
    words of one piece what may stand there in this context.
    """

    def __init__(self, tokenizer: Any, table: NDArray[np.float32], masked: "Masked | None" = None) -> None:
        """Take a fast tokenizer and the vectors of its vocabulary, float32 [tokens, width]."""
        self.tokenizer, self.masked = tokenizer, masked
        self.words, ids = _whole_words(tokenizer)
        if not self.words:
            raise ModelError("the tokenizer has no whole words to replace words by")
        self.table = table
        self.units = _units(table[ids])
        self._known: dict[str, list[str]] = {}

    def of(self, context: str, words: Sequence[tuple[int, int]], most: int) -> list[list[str]]:
        """Return for each word, given by its place, at most ``most`` others, likeliest first; maybe none."""
        texts = [context[start:end] for start, end in words]
        pieces = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        single = [len(ids) == 1 and self.masked is not None for ids in pieces]
        self._learn(
            [(text, ids) for text, ids, is_single in zip(texts, pieces, single, strict=True) if not is_single], most
        )
        masked: Iterator[list[str]] = iter(())
        if self.masked is not None and any(single):
            places = [place for place, is_single in zip(words, single, strict=True) if is_single]
            masked = iter(self.masked.of(context, places, most))
        return [
            next(masked) if is_single else self._known.get(text.lower(), [])
            for text, is_single in zip(texts, single, strict=True)
        ]

    def _learn(self, words: Sequence[tuple[str, Sequence[int]]], most: int) -> None:
        new = {text.lower(): ids for text, ids in words if text.lower() not in self._known and len(ids)}
        names = list(new)
        for start in range(0, len(names), _BLOCK):
            block = names[start : start + _BLOCK]
            vectors = _units(np.stack([self.table[list(new[name])].mean(axis=0) for name in block]))
            cosines = vectors @ self.units.T
            count = min(most + 1, cosines.shape[1])  # itself is one of them
            top = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            for name, row, similar in zip(block, top, cosines, strict=True):
                ranked = [self.words[i] for i in sorted(row, key=lambda i: (-similar[i], i))]
                self._known[name] = [word for word in ranked if word.lower() != name][:most]


class Masked:
    """A masked language model that says what may stand in a word's place."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        if tokenizer.mask_token_id is None:
            raise ModelError("the masked model's tokenizer has no mask token")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.words, self.ids = _whole_words(tokenizer)

    @classmethod
    def load(cls, folder: Path) -> "Masked":
        """Open a Hugging Face folder of a masked language model, in safetensors; ModelError for another."""
        check_transformer(folder)
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
        try:
            with whole_weights(folder):
                model = AutoModelForMaskedLM.from_pretrained(str(folder), dtype=torch.float32, **options)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
            raise ModelError(f"{folder}: cannot be loaded as a masked language model: {first_line(error)}") from error
        return cls(model, tokenizer_of(folder))

    def of(self, context: str, words: Sequence[tuple[int, int]], most: int) -> list[list[str]]:
        """Return for each word, given by its place, the ``most`` likeliest others in it."""
        encoded = self.tokenizer(context, add_special_tokens=False, return_offsets_mapping=True)
        ids, begins = list(encoded["input_ids"]), [begin for begin, _ in encoded["offset_mapping"]]
        before, after = self._frame(context, ids)
        rows, at = [], []
        for start, _ in words:
            token = int(np.searchsorted(begins, start, side="right")) - 1
            first = max(0, min(token - _MASKED_TOKENS // 2, len(ids) - _MASKED_TOKENS))
            window = ids[first : first + _MASKED_TOKENS]
            window[token - first] = self.tokenizer.mask_token_id
            rows.append([*before, *window, *after])
            at.append(len(before) + token - first)
        found: list[list[str]] = []
        for start in range(0, len(rows), _MASKED_BATCH):
            batch = self.tokenizer.pad({"input_ids": rows[start : start + _MASKED_BATCH]}, return_tensors="pt")
            with torch.inference_mode():
                logits = self.model(**{n: batch[n] for n in ("input_ids", "attention_mask")}).logits
            places = at[start : start + _MASKED_BATCH]
            scores = logits[torch.arange(len(places)), places][:, self.ids]
            for row, (begin, end) in zip(
                scores.topk(min(most + 1, len(self.ids))).indices, words[start:], strict=False
            ):
                own = context[begin:end].lower()
                found.append([self.words[i] for i in row.tolist() if self.words[i].lower() != own][:most])
        return found

    def _frame(self, context: str, ids: list[int]) -> tuple[list[int], list[int]]:
        """Return the special tokens before and behind a text of these tokens."""
        framed = list(self.tokenizer(context)["input_ids"])
        before = next((i for i in range(len(framed)) if framed[i : i + len(ids)] == ids), 0)
        return framed[:before], framed[before + len(ids) :]


def candidates_of(folder: Path, masked: Path | None = None) -> Candidates:
    """Take the vocabulary of a sentence-transformers or question-answering folder, and maybe a masked model's."""
    model, tokenizer = open_base(folder, 0), tokenizer_of(folder)
    table = model.get_input_embeddings().weight.detach().numpy()
    return Candidates(tokenizer, table, Masked.load(masked) if masked else None)


def _whole_words(tokenizer: Any) -> tuple[list[str], list[int]]:
    """Return the vocabulary's tokens that are words of letters by themselves, and their ids."""
    known = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.all_special_ids)
    tokens = [(token, i) for token, i in known if i not in special and not token.startswith("##")]
    marked = any(token.startswith(("Ġ", "▁")) for token, _ in tokens)  # byte-level BPE and Unigram mark a word's start
    found = [(token.lstrip("Ġ▁"), i) for token, i in tokens if not marked or token.startswith(("Ġ", "▁"))]
    words = [(token, i) for token, i in found if len(token) > 1 and token.isalpha()]
    return [token for token, _ in words], [i for _, i in words]


def _units(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def _in(word: tuple[int, int], answers: Sequence[tuple[int, int]]) -> bool:
    return any(word[0] < end and start < word[1] for start, end in answers)


def _where_any(
    words: Sequence[tuple[int, int]], found: Sequence[list[str]]
) -> tuple[list[tuple[int, int]], list[list[str]]]:
    both = [(word, replacements) for word, replacements in zip(words, found, strict=True) if replacements]
    return [word for word, _ in both], [replacements for _, replacements in both]


def _cased(word: str, replacement: str) -> str:
    """Write ``replacement`` as ``word`` is written: in capitals, with one, or as it is."""
    if word.isupper() and len(word) > 1:
        return replacement.upper()
    return replacement[0].upper() + replacement[1:] if word[0].isupper() else replacement


def _replaced(context: str, changes: Mapping[tuple[int, int], str]) -> str:
    parts, at = [], 0
    for (start, end), word in sorted(changes.items()):
        parts += [context[at:start], word]
        at = end
    return "".join([*parts, context[at:]])


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "~"
    taken.add(name)
    return name
