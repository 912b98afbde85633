"""Collections to search, in BEIR's folder form: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from compressor.artifact.folder import key_of
from compressor.core.encoder import check_texts
from compressor.core.errors import RecipeError, TextError
from compressor.texts.mixing import clean, folded
from compressor.texts.tables import csv_rows, json_rows

Judged = Mapping[str, Mapping[str, int]]
"""Of each query's id: how relevant a document is, by its id; 0 is not."""


@dataclass(frozen=True)
class Collection:
    """Documents, queries, and which documents answer which query."""

    name: str
    documents: Mapping[str, str]
    """Texts by id, the title before the text."""
    queries: Mapping[str, str]
    """Texts by id, of the queries that have a relevant document."""
    judged: Judged
    untitled: Mapping[str, str] = field(default_factory=dict)
    """Texts by id, without the title, of the documents that have one."""

    @classmethod
    def read(cls, folder: Path, split: str = "test") -> "Collection":
        """Read a folder (Thakur et al. 2021, arXiv:2104.08663); TextError names file and line of what is none."""
        if not folder.is_dir():
            raise TextError(f"{folder}: no such folder; a collection has corpus.jsonl, queries.jsonl and qrels")
        documents, untitled = dict[str, str](), dict[str, str]()
        for own, title, text in _rows(folder / "corpus.jsonl"):
            documents[own] = _titled(title, text)
            if title:
                untitled[own] = text
        asked = {own: _titled(title, text) for own, title, text in _rows(folder / "queries.jsonl")}
        path = folder / "qrels" / f"{split}.tsv"
        judged = _judged(path, asked, documents)
        relevant = {query: rows for query, rows in judged.items() if any(score > 0 for score in rows.values())}
        if not relevant:
            raise TextError(f"{path}: no query has a relevant document; there is nothing to find")
        queries = {query: asked[query] for query in relevant}
        return cls(folder.resolve().name, documents, queries, relevant, untitled)

    @cached_property
    def key(self) -> str:
        """Hash of the documents, queries and judgements."""
        return key_of(dict(self.documents), dict(self.queries), {query: dict(r) for query, r in self.judged.items()})

    def shares_among(self, texts: Iterable[str]) -> tuple[float, float]:
        """Return the shares of the documents, and of the queries, that are alike to one of ``texts``.

        A document is where its title and text are, or its text alone. ``texts`` are streamed, without prompts.
        """
        documents = _by_folded([*self.documents.items(), *self.untitled.items()])
        queries = _by_folded(self.queries.items())
        met, asked = set[str](), set[str]()
        for text in texts:
            own = folded(text.encode())
            met.update(documents.get(own, ()))
            asked.update(queries.get(own, ()))
        return len(met) / len(self.documents), len(asked) / len(self.queries)

    def facts(self) -> dict[str, Any]:
        """Return how much there is to search and to ask."""
        return {"name": self.name, "documents": len(self.documents), "queries": len(self.queries), "key": self.key}


def read_collections(folders: Sequence[str], base: Path, split: str, named: str) -> list[Collection]:
    """Read the collections of a field ``named`` so, relative to ``base``; RecipeError for two of one name."""
    read = [Collection.read(base / folder, split) for folder in folders]
    if len({collection.name for collection in read}) < len(read):
        raise RecipeError(f"{named} = {list(folders)}: two folders of one name; figures are told apart by it")
    return read


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield id, title and text of each line."""
    seen: set[str] = set()
    for line, row in json_rows(path):
        own, title, text = row.get("_id"), row.get("title") or "", row.get("text")
        if isinstance(own, int) and not isinstance(own, bool):
            own = str(own)
        if not isinstance(own, str) or not isinstance(text, str) or not isinstance(title, str):
            raise TextError(f"{path}: line {line}: needs _id and text, and may have a title: texts all")
        if own in seen:
            raise TextError(f"{path}: line {line}: _id {own!a:.80} stands twice")
        check_texts([own + title + text], line, f"{path}: line")
        seen.add(own)
        yield own, title, text
    if not seen:
        raise TextError(f"{path}: no line; there is nothing to search")


def _titled(title: str, text: str) -> str:
    return f"{title} {text}".strip()


def _judged(path: Path, queries: Mapping[str, str], documents: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Read ``query-id, corpus-id, score`` rows, tabs between, under a header."""
    judged: dict[str, dict[str, int]] = {}
    for number, (line, cells) in enumerate(row for row in csv_rows(path, "\t") if row[1]):
        if not number and not _is_score(cells[-1]):
            continue  # the header
        if len(cells) != 3 or not _is_score(cells[2]):
            wanted = "query-id, corpus-id, score with tabs between"
            raise TextError(f"{path}: line {line}: expected {wanted}, got {cells!r:.80}")
        query, document, score = cells
        for name, own, known in (("query-id", query, queries), ("corpus-id", document, documents)):
            if own not in known:
                raise TextError(f"{path}: line {line}: {name} {own!a:.80} is in no line of the collection")
        judged.setdefault(query, {})[document] = int(score)
    return judged


def _by_folded(texts: Iterable[tuple[str, str]]) -> dict[bytes, list[str]]:
    """Return the ids of the texts by what is compared of them; those with nothing to compare are left out."""
    found: dict[bytes, list[str]] = {}
    for own, text in texts:
        if key := folded(clean(text).encode()):
            found.setdefault(key, []).append(own)
    return found


def _is_score(cell: str) -> bool:
    return cell.removeprefix("-").isdecimal()
