"""What a student is made of: how many of the teacher's layers, how wide, with how many words."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from sentence_transformers import SentenceTransformer

from compressor.core.config import Config
from compressor.core.errors import CompressorError, ModelError, RecipeError
from compressor.distil.student.activation import take_relu
from compressor.distil.student.layers import (
    check_layers,
    check_places,
    check_searched,
    find_layers,
    keep_layers,
    spread_layers,
)
from compressor.distil.student.light import (
    check_dense,
    check_light,
    shrink,
    with_projection,
)
from compressor.distil.student.parts import Parts
from compressor.distil.student.prune import check_pruned, freeze_pruned, prune
from compressor.distil.student.search import search_layers
from compressor.distil.student.static import static_student
from compressor.distil.student.structure import find_parts
from compressor.distil.student.vocabulary import check_vocabulary, trim_vocabulary
from compressor.distil.student.words.factorized import check_factors, factorize
from compressor.models.sentence_model import embedding_dimension, open_model, transformer_of
from compressor.models.source import Source, find_student

_FITTED = 20_000  # texts that a projection from another student's space is fitted on


@dataclass(frozen=True)
class Possible:
    """What students a family can have: why not, empty where nothing is in the way."""

    uncut: str
    """Why no layers can be left out."""
    unfitted: str
    """Why kept layers cannot be fitted, and their feed-forward not be pruned."""
    unnarrowed: str
    """Why states and heads cannot be fewer."""
    no_relu: str
    """Why the activation cannot be a ReLU."""
    unfactored: str = ""
    """Why the vocabulary's table cannot be narrower than the states."""
    unheaded: str = ""
    """Why there cannot be fewer heads."""

    @classmethod
    def of(cls, transformer: Any) -> "Possible":
        """Look at a transformer, and leave it as it is."""
        parts: list[Parts] = []
        unfitted = _reason(lambda: parts.append(find_parts(transformer)))
        return cls(
            uncut=_reason(lambda: find_layers(transformer)),
            unfitted=unfitted,
            unnarrowed=unfitted or parts[0].unnarrowed,
            no_relu=_reason(lambda: take_relu(_copy(transformer))),
            unfactored=_reason(lambda: check_factors(transformer, 2)),
            unheaded=unfitted or parts[0].unheaded,
        )


class Size(Config):
    """The student: layers of the teacher, a narrower one fitted to it, a static one, or another model."""

    layers: int | tuple[int, ...] = 3
    """How many of the teacher's layers the student keeps, or which, counted from 0. 0: a static student, whose
    vector of a text is the mean of one vector a token."""
    choice: Literal["uniform", "first", "last", "searched"] = "uniform"
    """Which layers are kept where only their number is given: spread from the first to the last, the first, the last,
    or those that agree best with the teacher before training."""
    start: Literal["auto", "fitted", "copied"] = "auto"
    """What the kept layers start from: ``copied`` as they are, or ``fitted`` by least squares to make up for what was
    left out; auto: fitted, where the family's structure allows."""
    width: Annotated[int, Field(ge=1)] | None = None
    """Width of the student's states; its weights are fitted to the teacher's on the texts. None: the teacher's."""
    heads: Annotated[int, Field(ge=1)] | None = None
    """Attention heads a layer, the most important ones. None: the teacher's, or in proportion to the width."""
    feed_forward: Annotated[int, Field(ge=1)] | None = None
    """Neurons of a layer's feed-forward, the most important. None: the teacher's, or in proportion to the width."""
    activation: Literal["teacher", "relu"] = "teacher"
    """What stands between the two products of a feed-forward. ``relu``: none that int8 has to compute, since a range
    that starts at zero cuts what is below; a student learns to do with it, and a sixth of the time falls away."""
    vocabulary: Annotated[int, Field(ge=1)] | None = None
    """Tokens kept, those that the texts use most. None: all."""
    embedding_size: Annotated[int, Field(ge=2)] | None = None
    """Width of the vocabulary's table, most of a small student's bytes; a product then widens its rows to the states.
    Fitted by singular vectors before training; for students of BERT. None: as wide as the states."""
    dense: bool = True
    """A linear layer behind the pooling of a student with fitted layers, fitted to the teacher's vectors, which stays
    in float and is stored twice. false: none, of students as wide as the teacher, for fewer bytes."""
    model: str | None = None
    """A student of another make instead: a folder, or a name on the hub."""
    dim: Annotated[int, Field(ge=2)] | None = None
    """Length of the student's vectors, in the space of the teacher's principal components. None: the teacher's."""

    def check(self, teacher: SentenceTransformer) -> None:
        """Raise RecipeError if the teacher cannot give such a student, ModelError if its family cannot."""
        depth = len(find_layers(transformer_of(teacher))[2])
        if isinstance(self.layers, tuple):
            check_layers(self.layers, depth)
        elif not 0 <= self.layers <= depth:
            raise RecipeError(f"distil.layers = {self.layers}: must be 0 to {depth}, the teacher's layers")
        if self.dim is not None and self.dim > embedding_dimension(teacher):
            most = embedding_dimension(teacher)
            raise RecipeError(f"distil.dim = {self.dim}: must be at most {most}, the length of the teacher's vectors")
        for name in ("width", "heads", "feed_forward", "vocabulary", "embedding_size", "activation"):
            static = self.layers == 0 and name != "vocabulary"
            if getattr(self, name) not in (None, "teacher") and (static or self.model):
                conflict = f"model = {self.model}" if self.model else "layers = 0"
                raise RecipeError(f"distil.{name} = {getattr(self, name)}: not with {conflict}; leave it out")
        if not self.dense:
            if self.layers == 0 or self.model:
                raise RecipeError("distil.dense = false: of a student of the teacher's layers; leave it out")
            check_dense(self.dense, self.width, int(transformer_of(teacher).config.hidden_size))
        if self.layers != 0 and self.model is None:
            self._check_layers(teacher)
        if self.vocabulary is not None:
            check_vocabulary(teacher, self.vocabulary)
        if self.embedding_size is not None:
            check_factors(transformer_of(teacher), self.embedding_size, self.width)
            if self.heads is not None and self.width is None:
                conflict = f"heads = {self.heads} at the teacher's width"
                raise RecipeError(f"distil.embedding_size = {self.embedding_size}: not with {conflict}; leave one out")

    def _check_layers(self, teacher: SentenceTransformer) -> None:
        """Refuse, by name, layers that the student cannot have, and a family that cannot be taken apart."""
        transformer, searched = transformer_of(teacher), isinstance(self.layers, int) and self.choice == "searched"
        kept = () if searched else self.kept(teacher, [])
        if searched:
            check_searched(transformer)
        else:
            check_places(kept, transformer)
        if self.width is not None or self._fits(teacher, kept):
            check_light(teacher, find_parts(transformer), kept, self.width, self.heads, self.feed_forward)
        elif self.heads is not None or self.feed_forward is not None:
            check_pruned(find_parts(transformer), self.heads, self.feed_forward)

    def find(self, base: Path | None = None) -> Source | None:
        """Find the student of another make, its folder relative to ``base``; None where there is none."""
        return None if self.model is None else find_student(self.model, base)

    def kept(self, teacher: SentenceTransformer, texts: Sequence[str]) -> tuple[int, ...]:
        """Return the teacher's layers that the student keeps."""
        if isinstance(self.layers, tuple):
            return self.layers
        if self.layers == 0:
            return ()
        depth = len(find_layers(transformer_of(teacher))[2])
        if self.choice == "searched":
            return search_layers(teacher, self.layers, texts)
        return spread_layers(self.layers, depth, self.choice)

    def make(
        self,
        teacher: SentenceTransformer,
        kept: tuple[int, ...],
        texts: Sequence[str],
        vectors: Any,
        other: Path | None = None,
    ) -> SentenceTransformer:
        """Return the untrained student, its vectors in the teacher's space.

        ``vectors`` are the teacher's of ``texts``, indexed by rows, [len(texts), width]; ``other`` is where ``find``
        found ``model``, by default as from the working directory.
        """
        if self.model is not None:
            rows, folder = np.arange(min(_FITTED, len(texts))), other or find_student(self.model).folder
            return with_projection(open_model(folder), texts[: len(rows)], np.asarray(vectors[rows]))
        if not kept:
            trimmed = teacher if self.vocabulary is None else trim_vocabulary(teacher, texts, self.vocabulary)
            return static_student(trimmed, texts, vectors=vectors)
        student = self._of_layers(teacher, kept, texts)
        return student if self.embedding_size is None else factorize(student, texts, self.embedding_size)

    def _of_layers(
        self, teacher: SentenceTransformer, kept: tuple[int, ...], texts: Sequence[str]
    ) -> SentenceTransformer:
        if self.width is not None or self._fits(teacher, kept):
            return shrink(
                teacher,
                texts,
                layers=kept,
                width=self.width,
                heads=self.heads,
                feed_forward=self.feed_forward,
                vocabulary=self.vocabulary,
                relu=self.activation == "relu",
                dense=self.dense,
            )
        student = keep_layers(teacher, kept)
        if self.activation == "relu":
            take_relu(transformer_of(student))
        if self.heads is not None or self.feed_forward is not None:
            student = prune(student, texts, heads=self.heads, feed_forward=self.feed_forward)
            freeze_pruned(student)
        return student if self.vocabulary is None else trim_vocabulary(student, texts, self.vocabulary)

    def _fits(self, teacher: SentenceTransformer, kept: tuple[int, ...]) -> bool:
        """Tell whether the kept layers are to be fitted; ``start = "fitted"`` leaves a family's refusal to the fit."""
        if self.start != "auto" or list(kept) != sorted(kept):
            return self.start == "fitted"
        if self.heads is not None:
            return False  # fewer heads at full width are kept as zeros, which a fit would fill
        try:
            find_parts(transformer_of(teacher))
        except ModelError:
            return False
        return True


def _reason(check: Callable[[], object]) -> str:
    """Return why something cannot be had; empty where it can."""
    try:
        check()
    except CompressorError as error:
        return str(error)
    return ""


def _copy(transformer: Any) -> Any:
    """Return a copy with the same weights, not copied."""
    shared = {id(tensor): tensor for tensor in (*transformer.parameters(), *transformer.buffers())}
    return copy.deepcopy(transformer, shared)
