"""Give a student words of a new language: more tokens, each with a vector taken from what it translates."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_matrix
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, trainers

from compressor.core.config import Config
from compressor.core.errors import RecipeError
from compressor.distil.language.alignment import ALIGNED_PAIRS, align
from compressor.models.sentence_model import transformer_of
from compressor.texts.parallel import ParallelTexts

Initial = Literal["alignment", "pieces", "random"]
_TRUST = 2.0
"""Links after which a token's vector is half its translations', half its old pieces'."""

Matrix = NDArray[np.float32]


class Vocabulary(Config):
    """More tokens for a language that the teacher's vocabulary cuts to crumbs."""

    tokens: Annotated[int, Field(ge=0)] = 8000
    """At most so many tokens are added for the new language, 0: none; each costs the width of the embeddings in
    parameters, and no time."""
    initial: Initial = "alignment"
    """What a new token's vector starts as: ``alignment`` with the tokens that it translates, the mean of the old
    ``pieces`` that it was written with, or ``random``."""

    def extend(self, model: SentenceTransformer, pairs: ParallelTexts) -> SentenceTransformer:
        """Return a copy of ``model`` that knows the words of the translations."""
        return extend_vocabulary(model, pairs, self.tokens, self.initial) if self.tokens else copy.deepcopy(model)


def extend_vocabulary(
    model: SentenceTransformer, pairs: ParallelTexts, size: int, initial: Initial = "alignment"
) -> SentenceTransformer:
    """Return a copy of ``model`` with at most ``size`` more tokens, those that the translations need most.

    The tokenizer's normalizer stays, and with it the meaning of every old token: a lower-casing teacher gives a
    lower-casing student. ``initial`` says what a new token's vector starts as: the mean of the source tokens that
    it is aligned with, shrunk to the mean of its old pieces where few links were seen (as WECHSEL, Minixhofer et
    al. 2022, arXiv:2112.06598, starts from translations); those pieces alone; or random. Raises RecipeError for
    a tokenizer that is no WordPiece, and for texts that the vocabulary covers already.
    """
    student = copy.deepcopy(model)
    tokens = _word_pieces(student)
    old = Tokenizer.from_str(tokens.to_str())
    added = _learn(tokens, pairs.translations, size)
    if not added:
        raise RecipeError(f"vocabulary of {size} more tokens: the translations hold no word that is not covered")
    start = old.get_vocab_size(with_added_tokens=True)
    _set_vocabulary(tokens, {**old.get_vocab(with_added_tokens=False), **_numbered(added, start)})
    weights = _resize(transformer_of(student), start + len(added))
    known = weights[:start].numpy().copy()
    weights[start:] = torch.from_numpy(_vectors(initial, known, added, old, tokens, pairs))
    return student


def tokens_per_word(model: SentenceTransformer, texts: Iterable[str]) -> float:
    """Return how many tokens a word of the texts takes on average: 1.2 is home ground, from 1.6 on extend.

    Words are what the tokenizer's own pre-tokenizer cuts, punctuation left out.
    """
    tokens = _backend(model)
    words = [word for text in texts for word in _words(tokens, text)]
    if not words:
        return 0.0
    pieces = tokens.encode_batch(words, add_special_tokens=False)
    return sum(len(piece.ids) for piece in pieces) / len(words)


def _backend(model: SentenceTransformer) -> Tokenizer:
    tokens = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokens is None:
        raise RecipeError(f"vocabulary: {type(model.tokenizer).__name__} is no fast tokenizer")
    copied = Tokenizer.from_str(tokens.to_str())
    copied.no_truncation()
    copied.no_padding()
    return copied


def _word_pieces(model: SentenceTransformer) -> Tokenizer:
    """Return the model's own tokenizer; RecipeError if it is no WordPiece."""
    kind = type(_backend(model).model).__name__
    if kind != "WordPiece":
        raise RecipeError(f"vocabulary: a {kind} tokenizer cannot be extended, only WordPiece; leave the section out")
    return model.tokenizer.backend_tokenizer


def _words(tokens: Tokenizer, text: str) -> Iterator[str]:
    text = tokens.normalizer.normalize_str(text) if tokens.normalizer else text
    pieces = tokens.pre_tokenizer.pre_tokenize_str(text) if tokens.pre_tokenizer else [(w, None) for w in text.split()]
    return (word for word, _ in pieces if any(map(str.isalnum, word)))


def _learn(tokens: Tokenizer, texts: Sequence[str], size: int) -> list[str]:
    """Return at most ``size`` tokens that ``tokens`` lacks and that its texts are then written with."""
    known = tokens.get_vocab(with_added_tokens=True)
    prefix = tokens.model.continuing_subword_prefix
    learner = Tokenizer(models.WordPiece(unk_token=tokens.model.unk_token, continuing_subword_prefix=prefix))
    learner.normalizer, learner.pre_tokenizer = tokens.normalizer, tokens.pre_tokenizer
    # Ties are broken by id, and the trainer numbers the pieces within words as its random hash has them:
    # named beforehand, they have the same ids each time.
    letters = sorted({letter for text in texts for word in _words(learner, text) for letter in word})
    trainer = trainers.WordPieceTrainer(
        vocab_size=2 * size + len(known),
        min_frequency=2,
        show_progress=False,
        continuing_subword_prefix=prefix,
        special_tokens=[prefix + letter for letter in letters],
    )
    learner.train_from_iterator(texts, trainer, length=len(texts))
    ranked = sorted(learner.get_vocab().items(), key=lambda item: item[1])  # in the order they were merged
    found = [token for token, _ in ranked if token not in known]
    return _used(tokens, found[:size], texts)


def _used(tokens: Tokenizer, found: list[str], texts: Sequence[str]) -> list[str]:
    """Leave out the tokens that only led to longer ones: the longest match never takes them."""
    trial = Tokenizer.from_str(tokens.to_str())
    trial.no_truncation()
    trial.no_padding()
    start = trial.get_vocab_size(with_added_tokens=True)
    _set_vocabulary(trial, {**tokens.get_vocab(with_added_tokens=False), **_numbered(found, start)})
    seen: set[int] = set()
    for begin in range(0, len(texts), 4096):
        for encoded in trial.encode_batch(list(texts[begin : begin + 4096]), add_special_tokens=False):
            seen.update(encoded.ids)
    return [token for number, token in enumerate(found, start) if number in seen]


def _numbered(added: list[str], start: int) -> dict[str, int]:
    return {token: number for number, token in enumerate(added, start)}


def _set_vocabulary(tokens: Tokenizer, vocabulary: dict[str, int]) -> None:
    old = tokens.model
    tokens.model = models.WordPiece(
        vocabulary,
        unk_token=old.unk_token,
        max_input_chars_per_word=old.max_input_chars_per_word,
        continuing_subword_prefix=old.continuing_subword_prefix,
    )


def _resize(transformer: Any, rows: int) -> torch.Tensor:
    """Give the embeddings ``rows`` rows, state it in the config, and return the weights, detached."""
    table = transformer.get_input_embeddings()
    if rows > table.num_embeddings:  # some keep spare rows
        transformer.resize_token_embeddings(rows, mean_resizing=False)
    return transformer.get_input_embeddings().weight.detach()[:rows]


def _vectors(
    initial: Initial, known: Matrix, added: list[str], old: Tokenizer, new: Tokenizer, pairs: ParallelTexts
) -> Matrix:
    """Return the vectors that the new tokens start with, float32 [added, width]."""
    if initial == "random":
        spread = np.random.default_rng(0).standard_normal((len(added), known.shape[1]))
        return (known.mean(axis=0) + known.std(axis=0) * spread).astype(np.float32)
    pieces = _piece_means(known, added, old)
    if initial == "pieces":
        return pieces
    counts = _links(new, pairs, len(known) + len(added))[len(known) :, : len(known)]
    seen = np.asarray(counts.sum(axis=1))
    trust = seen / (seen + _TRUST)
    mean = counts @ known / np.maximum(seen, 1e-12)
    return (trust * mean + (1 - trust) * pieces).astype(np.float32)


def _piece_means(known: Matrix, added: list[str], old: Tokenizer) -> Matrix:
    """Return the mean vector of the old tokens that each new one was written with."""
    prefix = old.model.continuing_subword_prefix
    means = np.zeros((len(added), known.shape[1]), np.float32)
    for row, token in enumerate(added):
        ids = [piece.id for piece in old.model.tokenize(token.removeprefix(prefix))]
        means[row] = known[ids].mean(axis=0)
    return means


def _links(tokens: Tokenizer, pairs: ParallelTexts, vocabulary: int) -> csr_matrix:
    trial = Tokenizer.from_str(tokens.to_str())
    trial.no_truncation()
    trial.no_padding()
    both = [
        [encoded.ids for encoded in trial.encode_batch(list(texts), add_special_tokens=False)]
        for texts in (pairs.sources[:ALIGNED_PAIRS], pairs.translations[:ALIGNED_PAIRS])
    ]
    return align(both[0], both[1], vocabulary)
