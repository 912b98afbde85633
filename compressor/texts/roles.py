"""Texts by their roles, documents and queries, each with the prompt that the model puts before them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from compressor.artifact.prompts import DOCUMENT, QUERY, Prompts
from compressor.core.config import Config
from compressor.core.errors import RecipeError, TextError
from compressor.texts.corpus import Corpus, Texts, open_sources
from compressor.texts.shaped import Shape


class Queries(Config):
    """Texts that are asked with, where those of ``texts`` are searched: each role has its prompt."""

    source: str
    """A file, a table or a data set, as for ``texts.source``."""
    column: str | None = None
    """The text column of a table or data set, as for ``texts.column``."""
    split: str | None = None
    """The split of a data set, as for ``texts.split``."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Queries' share of all texts; they are drawn in that proportion until either is used up. None: every text."""
    prompt_name: str | None = None
    """Name of the model's prompt before each query; none takes ``query``, where the model states it."""
    prompt: str | None = None
    """A prompt in place of the model's own."""


class RoleTexts(Texts):
    """Where texts come from, how many of them, and in what shape they are learnt from."""

    pieces: Annotated[int, Field(ge=1)] | None = None
    """Train on pieces of one to so many sentences, too, of each text with several, so that a student sees every
    length. They are cut of texts to train on alone, and what is kept out for measuring is among none."""
    prompt_name: str | None = None
    """Name of the model's prompt before each text, in training and measuring; none takes, beside ``queries``, the
    first of ``document``, ``passage`` and ``corpus`` that the model states, and elsewhere none."""
    prompt: str | None = None
    """A prompt in place of the model's own."""

    def load_roles(self, base: Path, prompts: Prompts, queries: Queries | None) -> Corpus:
        """Read texts and ``queries`` as one corpus, each with its prompt before it; the rest is as for ``load``.

        RecipeError for a prompt that the model does not state, or one beside another that it always puts first.
        """
        readings = self._open(base)
        before = [_prompt("texts", prompts, self.prompt_name, self.prompt, DOCUMENT if queries else ())] * len(readings)
        weights: Sequence[float] | None = self.weights
        if queries:
            before.append(_prompt("queries", prompts, queries.prompt_name, queries.prompt, QUERY))
            weights = _shares(self.weights, len(readings), queries.share)
            readings += open_sources([queries.source], queries.split, queries.column, base)
        return self._mixed(readings, weights, Shape(tuple(before), self.pieces))


def _prompt(
    section: Literal["texts", "queries"], prompts: Prompts, name: str | None, prompt: str | None, names: Sequence[str]
) -> str:
    """Return what stands before the texts of a section: what it states, or the first of ``names`` that there is."""
    stated = name is not None or prompt is not None
    if not stated and (prompts.default or (name := prompts.first(names)) is None):
        return ""
    try:
        chosen = prompts.choose(name, prompt)
    except TextError as error:
        raise RecipeError(f"{section}.{error}") from error
    if chosen == prompts.default:  # put there anyway
        return ""
    if prompts.default:
        field, value = ("prompt_name", name) if prompt is None else ("prompt", prompt)
        raise RecipeError(
            f"{section}.{field} = {value!a:.80}: the model always puts its default prompt first; leave it out"
        )
    return chosen


def _shares(weights: Sequence[float] | None, sources: int, share: float | None) -> list[float] | None:
    """Return the weights of all sources, those of ``texts`` first."""
    if share is None and weights is None:
        return None
    if share is None:
        raise RecipeError("queries.share: missing; texts.weights say in what proportion the others are drawn")
    if weights is None and sources > 1:
        raise RecipeError(f"queries.share = {share}: {sources} sources of texts need texts.weights beside it")
    own = weights or [1.0]
    return [*(weight / sum(own) * (1 - share) for weight in own), share]
