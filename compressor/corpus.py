"""Texts to learn from and to measure on: a file, a data set, or the docstrings of installed packages."""

import gzip
import hashlib
import json
import os
import textwrap
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from compressor import docstrings
from compressor.errors import TextError
from compressor.recipe import Config

HELDOUT_SHARE = 0.1
MIN_HELDOUT = 20  # 10 neighbours are looked for among them
MIN_TEXTS = 200
MAX_LINE_BYTES = 1 << 20
"""No text is this long: a file without line ends is refused before it fills the memory."""

TEXT_SUFFIXES = frozenset({".txt", ".text", ".gz", ".md", ".en"})
OTHER_SUFFIXES = frozenset({".csv", ".tsv", ".json", ".jsonl", ".parquet", ".bz2", ".xz", ".zip", ".zst"})
"""Files that hold texts, but not one a line: refused rather than read as if they did."""


@dataclass(frozen=True)
class Corpus:
    """Distinct, cleaned texts, cut once into those to train on and those to measure on."""

    train: list[str]
    heldout: list[str]
    source: str
    fingerprint: str
    """sha256 of the texts in their order, and of where they are cut."""
    dropped: dict[str, int]
    """How many texts were left out as ``empty`` and as ``duplicate``."""

    @property
    def key(self) -> str:
        return self.fingerprint

    def facts(self) -> dict[str, Any]:
        """Return the ``texts`` section of the results."""
        return {
            "source": self.source,
            "count": len(self.train) + len(self.heldout),
            "heldout": len(self.heldout),
            "fingerprint": self.fingerprint,
            "dropped": self.dropped,
        }


class Texts(Config):
    """Where texts come from, and how many of them."""

    source: str | None = None
    """A text file (plain or .gz, UTF-8, one text a line), a data set (``name`` or ``name:config``),
    or none: English sentences from the docstrings of installed packages."""
    column: str | None = None
    """The text column of a data set; none takes the first."""
    split: str = "train"
    """The split of a data set, in the notation of ``datasets`` (``train[:1%]``)."""
    limit: int | None = Field(default=None, ge=1)
    """At most so many texts, chosen at random; their order is kept."""
    heldout: int = Field(default=2000, ge=MIN_HELDOUT)
    """Texts kept out of training for measuring; at most a tenth of the texts is taken."""
    seed: int = 0
    """Decides which texts are chosen and which are held out."""

    def load(self, base: Path | None = None) -> Corpus:
        """Read, clean and split the texts; a relative file is looked for in ``base``.

        Raises TextError for a source that cannot be read or has fewer than MIN_TEXTS distinct texts.
        """
        name, texts = self._read(base or Path())
        kept, dropped = _clean(texts)
        _check_enough(name, len(kept))
        if self.limit is not None:
            _check_enough(f"{name} with limit = {self.limit}", min(self.limit, len(kept)))
            kept, _ = _choose(kept, self.limit, f"limit {self.seed}")
        count = min(self.heldout, int(len(kept) * HELDOUT_SHARE))
        heldout, train = _choose(kept, count, f"heldout {self.seed}")
        return Corpus(train, heldout, name, _fingerprint(train, heldout), dropped)

    def _read(self, base: Path) -> tuple[str, Iterable[str]]:
        path = base / os.path.expanduser(self.source or "")
        if self.source is not None and not _is_file(self.source, path):
            return self.source, _dataset_texts(self.source, self.split, self.column)
        if self.column is not None:
            raise TextError(f"{self.source or 'docstrings'}: column = {self.column}: only data sets have columns")
        if self.source is not None:
            return self.source, _lines(path)
        # twice the limit, so that there is a choice
        return "docstrings", docstrings.sentences(self.limit and max(2 * self.limit, MIN_TEXTS))


def _is_file(source: str, path: Path) -> bool:
    """Tell a file from a data set, whose name has at most one slash and no suffix."""
    spelt = source.startswith(("./", "../", "/", "~")) or source.count("/") > 1
    return spelt or path.suffix.lower() in TEXT_SUFFIXES | OTHER_SUFFIXES or os.path.exists(path)


def _lines(path: Path) -> Iterator[str]:
    if path.suffix.lower() in OTHER_SUFFIXES:
        raise TextError(f"{path}: a {path.suffix} file is no text file; give one text a line, plain or .gz")
    try:
        yield from _decoded(path)
    except FileNotFoundError as error:
        raise TextError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise TextError(f"{path}: a folder, not a text file") from error
    except EOFError as error:
        raise TextError(f"{path}: the gzip file is cut off") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise TextError(f"{path}: not a sound gzip file ({error})") from error
    except OSError as error:
        raise TextError(f"{path}: cannot be read ({error.strerror})") from error


def _decoded(path: Path) -> Iterator[str]:
    with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=1):
            if b"\0" in line:
                raise TextError(f"{path}: line {number} holds a NUL byte; this is a binary file")
            if len(line) == MAX_LINE_BYTES:
                raise TextError(f"{path}: line {number} is longer than {MAX_LINE_BYTES} bytes; one text a line")
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"line {number}, byte {error.start + 1} (0x{line[error.start]:02x})"
                raise TextError(f"{path}: {where} is not UTF-8") from error


def _dataset_texts(source: str, split: str, column: str | None) -> Iterator[str]:
    name, _, config = source.partition(":")
    from datasets import load_dataset  # here: it takes a second to import

    try:
        rows: Any = load_dataset(name, config or None, split=split)
    except Exception as error:  # hub, network, parser: each has errors of its own
        reason = textwrap.shorten(str(error) or type(error).__name__, 240, placeholder=" …")
        raise TextError(f"{source}: no file, and as a data set not to be had: {reason}") from error
    return (text or "" for text in rows[_text_column(source, rows.features, column)])


def _text_column(source: str, features: dict[str, Any], column: str | None) -> str:
    names = [name for name, kind in features.items() if getattr(kind, "dtype", "").endswith("string")]
    if column is None and names:
        return names[0]
    if column in names:
        return str(column)
    wanted = "no text column" if column is None else f"column = {column}: no such text column"
    raise TextError(f"{source}: {wanted}; there are: {', '.join(names if names else features) or 'none'}")


def _clean(texts: Iterable[str]) -> tuple[list[str], dict[str, int]]:
    """Collapse whitespace; drop what is then empty or was there before."""
    kept: dict[str, None] = {}
    dropped = {"empty": 0, "duplicate": 0}
    for text in texts:
        cleaned = " ".join(text.removeprefix("\ufeff").split())
        if cleaned and cleaned not in kept:
            kept[cleaned] = None
        else:
            dropped["duplicate" if cleaned else "empty"] += 1
    return list(kept), dropped


def _check_enough(name: str, count: int) -> None:
    if count == 0:
        raise TextError(f"{name}: empty, holds no text")
    if count < MIN_TEXTS:
        noun = "text" if count == 1 else "texts"
        raise TextError(f"{name}: {count} distinct {noun}; at least {MIN_TEXTS} are needed")


def _choose(texts: list[str], count: int, key: str) -> tuple[list[str], list[str]]:
    """Part ``texts`` into ``count`` chosen ones and the rest, both in order.

    A text's own hash decides, so texts added later do not reshuffle the others.
    """
    if count >= len(texts):
        return texts, []
    ranks = [hashlib.blake2b(f"{key} {text}".encode(), digest_size=8).digest() for text in texts]
    last = sorted(ranks)[count - 1] if count else b""
    pairs = list(zip(ranks, texts, strict=True))
    return [text for rank, text in pairs if rank <= last], [text for rank, text in pairs if rank > last]


def _fingerprint(train: list[str], heldout: list[str]) -> str:
    return hashlib.sha256(json.dumps([train, heldout]).encode()).hexdigest()
