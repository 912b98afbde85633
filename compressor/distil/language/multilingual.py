"""Make a student of the teacher that knows another language as well."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from sentence_transformers import SentenceTransformer

from compressor.artifact.code import code_key
from compressor.artifact.folder import key_of
from compressor.core.errors import RecipeError, TextError
from compressor.distil.language.extend import Vocabulary
from compressor.distil.language.switching import Switched, lexicon
from compressor.distil.training.lessons import Part
from compressor.models.source import Source
from compressor.models.teacher_vectors import training_precision, vectors_of
from compressor.texts.corpus import Corpus
from compressor.texts.parallel import Parallel, ParallelTexts

Pair = Annotated[tuple[str, ...], Field(min_length=2, max_length=2)]
Share = Annotated[float, Field(ge=0, le=1)]


class Multilingual(Vocabulary, Parallel):
    """Teach the student another language: a translation is to have the teacher's vector of its source."""

    first_language: Share = 0.35
    """Share of the training that goes to the recipe's texts, so that the teacher's own language is kept."""
    switched: Share = 0.15
    """Share that goes to the recipe's texts with words replaced by their translations; the rest are translations."""
    heldout: Annotated[int, Field(ge=1)] = 1000
    """Pairs kept out of training, for measuring."""
    matching: tuple[Pair, ...] = ()
    """Further pairs of files in which translations are looked for, to be measured; one text a line."""
    sts: tuple[Pair, ...] = ()
    """Pairs of STS files whose rows correspond, first and new language, to be measured."""

    def split_pairs(self, base: Path) -> tuple[ParallelTexts, ParallelTexts]:
        """Return the pairs to train on and those to measure on; files are looked for in ``base``."""
        if self.first_language + self.switched >= 1:
            total = self.first_language + self.switched
            raise RecipeError(f"multilingual.first_language + switched = {total:g}: must be below 1")
        return self.load(base).split(self.heldout)


@dataclass(frozen=True)
class Translations:
    """What a multilingual training adds to the recipe's texts (Reimers and Gurevych 2020, arXiv:2004.09813)."""

    config: Multilingual
    base: Path

    @cached_property
    def pairs(self) -> tuple[ParallelTexts, ParallelTexts]:
        return self.config.split_pairs(self.base)

    @property
    def key(self) -> str:
        learnt = self.config.model_dump(mode="json", exclude={"matching", "sts"})  # those are only measured on
        return key_of(learnt, code_key(__name__), *(part.key for part in self.pairs))

    def parts(self, teacher: Source, corpus: Corpus, vectors: Any) -> list[Part]:
        """Return the translations, and the switched texts, with the teacher's vectors of what they say.

        Translations of texts that ``corpus`` keeps out of training are left out.
        """
        pairs, config = self.pairs[0].without(corpus.kept_out()), self.config
        if not len(pairs):
            raise TextError("multilingual.pairs: every source is a text that is kept out of training")
        distinct = list(dict.fromkeys(pairs.sources))
        place = {text: row for row, text in enumerate(distinct)}
        of_sources = vectors_of(teacher, distinct, training_precision())
        rows = np.array([place[text] for text in pairs.sources], np.int64)
        left = 1 - config.first_language - config.switched
        parts = [Part(pairs.translations, of_sources, rows, left)]
        if config.switched:
            parts.append(Part(Switched(corpus.train, lexicon(pairs)), vectors, share=config.switched))
        return parts

    @property
    def prepare(self) -> Callable[[SentenceTransformer], SentenceTransformer] | None:
        """Return what gives the teacher the words of the new language before a student is made of it."""
        return (lambda model: self.config.extend(model, self.pairs[0])) if self.config.tokens else None

    def read_matching(self) -> list[tuple[str, ParallelTexts]]:
        """Return the sets of pairs in which translations are looked for, named."""
        named: list[tuple[str, ParallelTexts]] = [("held out", self.pairs[1])]
        for files in self.config.matching:
            texts = Parallel(pairs=(files,), columns=self.config.columns).load(self.base)
            named.append((" + ".join(Path(f).name for f in files), texts))
        if len(dict(named)) < len(named):
            stated = json.dumps(self.config.matching)
            raise RecipeError(f"multilingual.matching = {stated}: two of one name; figures are told apart by it")
        return named

    def sts_files(self) -> Sequence[tuple[Path, Path]]:
        """Return the pairs of STS files."""
        return [(self.base / left, self.base / right) for left, right in self.config.sts]
