"""Texts to learn from and to measure on: from files, data sets, or the docstrings of installed packages."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from compressor.artifact.code import code_key
from compressor.artifact.folder import key_of
from compressor.core.cache import cache_folder
from compressor.core.config import Config, Seed
from compressor.core.errors import TextError
from compressor.core.progress import say
from compressor.texts import mixing
from compressor.texts.reading import TABLE_SUFFIXES, Reading, docstring_reading, file_reading, is_file, kind_of
from compressor.texts.shaped import Shape
from compressor.texts.tables import dataset_reading, table_reading
from compressor.texts.textstore import TextStore, kept_store

HELDOUT_SHARE = 0.1
MIN_HELDOUT = 20  # 10 neighbours are looked for among them
MIN_TEXTS = 200
Parts = tuple[slice, slice, slice]
"""Where the texts of a corpus lie in its store: to train on, to choose by, held out."""


@dataclass(frozen=True)
class Corpus:
    """Distinct, cleaned texts in random order, cut into those to train on, to choose by and to measure on."""

    train: Sequence[str]
    dev: list[str]
    """Texts kept out of training that settings are chosen by: what is reported is measured on others."""
    heldout: list[str]
    """Texts kept out of training and of every choice, for the figures that are reported."""
    source: str
    fingerprint: str
    """sha256 of the texts in their order, and of where they are cut."""
    dropped: dict[str, int]
    """How many texts were left out as ``empty``, as ``wordless`` (no letter, no digit), as ``duplicate`` (of another
    but for case and punctuation), and with weights as ``surplus`` of a source after another was used up."""
    per_source: dict[str, int] = field(default_factory=dict)
    """Texts taken of each source, where there are several."""
    columns: dict[str, str] = field(default_factory=dict)
    """The column read of each source that has any."""
    pieces: int = 0
    """Pieces of texts among those to train on."""
    prompts: tuple[str, ...] = ()
    """Prompts that stand before texts."""

    @property
    def key(self) -> str:
        return self.fingerprint

    def bare(self, texts: Iterable[str]) -> Iterator[str]:
        """Yield texts of this corpus without the prompts before them."""
        prompts = sorted(self.prompts, key=len, reverse=True)  # one may begin with another
        return (text.removeprefix(next(filter(text.startswith, prompts), "")) for text in texts)

    def kept_out(self) -> list[str]:
        """Return the texts to choose by and those held out, without the prompts before them."""
        return list(self.bare([*self.dev, *self.heldout]))

    def parts(self) -> str:
        """Say how many texts each part has."""
        return f"{len(self.train):,} to train, {len(self.dev):,} to choose by, {len(self.heldout):,} held out"

    def facts(self) -> dict[str, Any]:
        """Return the ``texts`` section of the results."""
        facts = {
            "source": self.source,
            "count": len(self.train) + len(self.dev) + len(self.heldout),
            "dev": len(self.dev),
            "heldout": len(self.heldout),
            "fingerprint": self.fingerprint,
            "dropped": self.dropped,
        }
        more = {"per_source": self.per_source, "columns": self.columns, "pieces": self.pieces, "prompts": self.prompts}
        return facts | {name: value for name, value in more.items() if value}


class Texts(Config):
    """Where texts come from, and how many of them."""

    source: str | Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """A text file (plain or .gz, UTF-8, one text a line), a table (.csv, .tsv, .jsonl, .json of lines, each plain or
    .gz, or .parquet), a data set (``name`` or ``name:config``), a list of these, or none: English sentences from the
    docstrings of installed packages."""
    weights: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """The share of the texts drawn from each source, one number a source; they are taken in that proportion until
    one source is used up. None: every text of every source."""
    column: str | None = None
    """The text column of a table or data set; none takes the only one, or the only one named ``text``, ``sentence``,
    ``content``, ``passage`` or the like."""
    split: str | None = None
    """The split of a data set, in the notation of ``datasets`` (``train[:1%]``); none takes ``train``."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many texts, chosen at random: those of a smaller limit come first among those of a larger one."""
    heldout: int = Field(default=2000, ge=MIN_HELDOUT)
    """Texts kept out of training for measuring, and as many more to choose by (the mean of ``pca``, when a training
    stops, the form of a graph); each at most a tenth of the texts."""
    seed: Seed = 0
    """Decides the order of the texts, so which are chosen and which are held out."""

    @field_validator("weights")
    @classmethod
    def _one_a_source(cls, weights: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        source = info.data.get("source")
        sources = 1 if source is None or isinstance(source, str) else len(source)
        if weights is not None and len(weights) != sources:
            raise ValueError(f"{len(weights)} weights for {sources} sources; one a source is needed")
        return weights

    def load(self, base: Path | None = None) -> Corpus:
        """Read, clean, shuffle and split the texts; relative files are looked for in ``base``.

        The texts are kept in the cache, for any limit: a second load opens them there. Raises TextError for
        a source that cannot be read, and for fewer than MIN_TEXTS distinct texts.
        """
        return self._mixed(self._open(base or Path()), self.weights)

    def _open(self, base: Path) -> list[Reading]:
        names = [self.source] if isinstance(self.source, str) else list(self.source or [])
        if not names and self.column is None and self.split is None:
            # twice the limit, so that there is a choice
            return [docstring_reading(self.limit and max(2 * self.limit, MIN_TEXTS))]
        return open_sources(names, self.split, self.column, base)

    def _mixed(
        self, readings: Sequence[Reading], weights: Sequence[float] | None, shape: Shape | None = None
    ) -> Corpus:
        """Return what is read, drawn by ``weights``, in the ``shape`` that it is learnt in."""
        name = ", ".join(reading.name for reading in readings)
        store = kept_store(self._folder(readings, weights), partial(self._build, readings, weights, name))
        count = len(store)
        if self.limit is not None:
            count = min(self.limit, count)
            _check_enough(f"{name} with limit = {self.limit}", count)
        corpus, parts = self._cut(store, count, readings, name)
        return self._shaped(store, corpus, parts, shape) if shape and shape.changes else corpus

    def _folder(self, readings: Sequence[Reading], weights: Sequence[float] | None) -> Path:
        """Return the store's folder, named by all that its texts depend on."""
        code = code_key("compressor.texts.reading", "compressor.texts.mixing")
        key = key_of([reading.identity for reading in readings], weights, self.seed, code)
        return cache_folder() / "texts" / key

    def _build(
        self, readings: Sequence[Reading], weights: Sequence[float] | None, name: str, folder: Path
    ) -> dict[str, Any]:
        noted = mixing.mix(readings, weights, self.seed, folder)
        _check_enough(name, len(TextStore(folder)))
        return noted

    def _shaped(self, store: TextStore, corpus: Corpus, parts: Parts, shape: Shape) -> Corpus:
        """Return the corpus with the prompts of its sources, and with pieces among the texts to train on."""
        code = code_key("compressor.texts.shaped")
        key = key_of(corpus.fingerprint, store.label_digest(), shape.prompts, shape.pieces, self.seed, code)
        whole, kept_out = store.first(len(corpus.train)), [*corpus.dev, *corpus.heldout]
        folder = cache_folder() / "texts" / key
        train = kept_store(folder, partial(shape.write, whole, kept_out, self.seed))
        measured = zip((corpus.dev, corpus.heldout), parts[1:], strict=True)
        dev, heldout = (shape.prompted(texts, store.labels(part)) for texts, part in measured)
        pieces, prompts = int(train.meta["pieces"]), tuple(filter(None, dict.fromkeys(shape.prompts)))
        made = replace(corpus, train=train, dev=dev, heldout=heldout, fingerprint=key)
        return replace(made, pieces=pieces, prompts=prompts)

    def _cut(self, store: TextStore, count: int, readings: Sequence[Reading], name: str) -> tuple[Corpus, Parts]:
        """Train on the first texts, whatever is held out; hold out the last of all, whatever the limit."""
        heldout, end = min(self.heldout, int(count * HELDOUT_SHARE)), len(store)
        trained = count - 2 * heldout
        parts = slice(0, trained), slice(end - 2 * heldout, end - heldout), slice(end - heldout, end)
        per_source: dict[str, int] = {}
        if len(readings) > 1:
            counts = zip(*(store.per_label(part, len(readings)) for part in parts), strict=True)
            for reading, all_parts in zip(readings, counts, strict=True):
                per_source[reading.name] = per_source.get(reading.name, 0) + sum(all_parts)
        fingerprint = key_of(store.fingerprint, count, heldout)
        dropped = dict(store.meta["dropped"])
        train, dev, measured = store.first(trained), store[parts[1]], store[parts[2]]
        columns = {reading.name: reading.column for reading in readings if reading.column is not None}
        return Corpus(train, dev, measured, name, fingerprint, dropped, per_source, columns), parts


def open_sources(names: Sequence[str], split: str | None, column: str | None, base: Path) -> list[Reading]:
    """Open text files, tables and data sets, relative files looked for in ``base``.

    TextError for what is none, and for a split or column that no source has.
    """
    paths = {name: base / os.path.expanduser(name) for name in names}
    files = {name for name, path in paths.items() if is_file(name, path)}
    tables = {name for name in names if name not in files or kind_of(paths[name]) in TABLE_SUFFIXES}
    named = ", ".join(names) or "docstrings"
    if column is not None and not tables:
        raise TextError(f"{named}: column = {column}: only tables and data sets have columns")
    if split is not None and files.issuperset(names):
        raise TextError(f"{named}: split = {split}: only data sets have splits")
    readings = []
    for name in names:
        if name not in files:
            readings.append(dataset_reading(name, split or "train", column))
        elif name in tables:
            readings.append(table_reading(name, paths[name], column))
        else:
            readings.append(file_reading(name, paths[name]))
        if readings[-1].column is not None:
            say(f"texts: {name}: column {readings[-1].column}")
    return readings


def _check_enough(name: str, count: int) -> None:
    if count == 0:
        raise TextError(f"{name}: empty, holds no text")
    if count < MIN_TEXTS:
        noun = "text" if count == 1 else "texts"
        raise TextError(f"{name}: {count} distinct {noun}; at least {MIN_TEXTS} are needed")


@dataclass(frozen=True)
class TextSource:
    """Where a command's texts are: a file, a table or a data set, and what of it is read."""

    source: str
    column: str | None = None
    """None for the one that is known by its name."""
    split: str | None = None
    """None for a data set's ``train``."""


def read_corpus(texts: TextSource | None, limit: int | None) -> Corpus:
    """Read the texts that a command was given, without any docstrings, and say how many there are."""
    corpus = Texts.read(({} if texts is None else asdict(texts)) | {"limit": limit}).load()
    say(f"texts: {corpus.source}: {corpus.parts()}")
    return corpus
