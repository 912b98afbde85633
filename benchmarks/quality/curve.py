"""Quality against the bytes of a vector: principal components of every size, in float32, int8 and binary."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field
from scipy.stats import spearmanr

from benchmarks.quality.sts import Sts, read_sets
from benchmarks.report.curve_chart import picture
from compressor.artifact.folder import Draft, write_json
from compressor.core.config import Config
from compressor.core.encoder import Encoder, Vectors
from compressor.core.errors import RecipeError
from compressor.core.progress import track
from compressor.core.strict_json import JsonObject
from compressor.machine.describe import describe
from compressor.models.agreement import check_vectors, cosines, neighbours_in_common, normalized
from compressor.models.sentence_model import TorchEncoder
from compressor.models.source import Source
from compressor.texts.collections import Collection, read_collections
from compressor.texts.corpus import Corpus
from compressor.vectors.codes import FORMS, Ranges, VectorPrecision, bytes_of, quantized, scored
from compressor.vectors.pca import Pca, pair_correlation
from compressor.vectors.retrieval import Found, encoder_for, retrieval

Size = Annotated[int, Field(ge=2)]
Kept = Literal["variance", "similarities"]
REDUCTIONS: dict[Kept, str] = {"variance": "pca", "similarities": "similarities"}
STANDARD = (32, 64, 96, 128, 192, 256, 384)
_CHUNK = 2048  # texts encoded between two signs of progress


@dataclass(frozen=True)
class Reduced:
    """How vectors were made shorter."""

    dim: int
    reduction: str
    """One of REDUCTIONS' names; ``truncation``, or ``none``."""
    centered: bool | None = None
    """Whether a mean was taken off; None where there are no components."""


@dataclass(frozen=True)
class Point:
    """What vectors of one size keep in one precision."""

    reduced: Reduced
    precision: VectorPrecision
    bytes: int
    """Of a vector."""
    neighbours_at_10: float
    pair_correlation: float
    sts: Mapping[str, float]
    """Spearman's correlation x 100, by file."""
    share: float | None
    """Of the model's own correlations, the mean over the files; None without any."""
    retrieval: Mapping[str, Found]
    """What is found, by collection; of codes, ``rescored`` with the queries' vectors in full as well."""

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it: a row, how the vectors were reduced first."""
        figures = {known.name: getattr(self, known.name) for known in fields(self)}
        reduced = {name: value for name, value in vars(figures.pop("reduced")).items() if value is not None}
        return reduced | figures

    @classmethod
    def read(cls, stated: Mapping[str, Any]) -> Self:
        """Read what ``as_dict`` wrote."""
        figures = {known.name: stated[known.name] for known in fields(cls) if known.name != "reduced"}
        return cls(Reduced(stated["dim"], stated["reduction"], stated.get("centered")), **figures)


class Curve(Config):
    """Fit principal components of several sizes on one set of texts, and measure what they keep on another."""

    dims: tuple[Size, ...] | None = None
    """Sizes to measure, beside the model's own; by default those of 32, 64, 96, 128, 192, 256 and 384 below it."""
    sts: tuple[str, ...] = ()
    """STS files (``sentence1,sentence2,score``) to measure quality on; without any, agreement alone."""
    retrieval: tuple[str, ...] = ()
    """Collections in BEIR's folder form to measure retrieval on."""
    retrieval_split: str = "test"
    """The judgements that are taken of each collection: qrels/SPLIT.tsv."""
    center: Literal["auto"] | bool = "auto"
    """As in ``pca``."""
    whiten: Annotated[float, Field(ge=0, le=1)] = 0.0
    """As in ``pca``."""
    keep: Literal["variance", "similarities", "both"] = "variance"
    """As in ``pca``; ``both``: the one beside the other."""
    rotate: bool = True
    """As in ``pca``, but on by default: it changes nothing for float32."""
    sample: Annotated[int, Field(ge=100)] = 20_000
    """Training texts that the components and the ranges of int8 are fitted on, at most."""

    def sizes(self, width: int, texts: int) -> list[int]:
        """Return the sizes to measure of vectors of ``width``; RecipeError for one that they do not have."""
        dims = [d for d in STANDARD if d < width] if self.dims is None else list(self.dims)
        if outside := [d for d in dims if d > width]:
            raise RecipeError(f"curve.dims = {dims}: {outside[0]} is not in 2..{width}, the length of the vectors")
        if self.dims == () or len(set(dims)) < len(dims):
            raise RecipeError(f"curve.dims = {dims}: {'a size is repeated' if dims else 'give at least one'}")
        for dim in dims:
            self._pca(dim, "variance" if self.keep == "variance" else "similarities").check(width, texts)
        return sorted(d for d in dims if d < width)

    def run(self, model: Source, corpus: Corpus, truncate: bool, command: str, draft: Draft) -> JsonObject:
        """Write ``curve.json`` and ``curve.svg`` into ``draft`` and return what the JSON holds.

        Every text is encoded once; all sizes are cut from the same vectors. ``truncate`` adds the first
        components of the vectors as they are, which a model trained for it (Matryoshka) keeps quality in.
        """
        started, sets = time.monotonic(), read_sets(self.sts, Path(), "curve.sts")
        collections = read_collections(self.retrieval, Path(), self.retrieval_split, "curve.retrieval")
        encoder = TorchEncoder.load(model.folder)
        dims = self.sizes(encoder.dim, len(corpus.train))
        judge = Judge.of(encoder, list(corpus.train[: self.sample]), corpus.dev, corpus.heldout, sets, collections)
        results = {
            "name": "curve",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "settings": self.model_dump(mode="json") | {"truncate": truncate},
            "model": {"name": model.name, "weights_sha256": model.weights_sha256, "dim": encoder.dim},
            "texts": corpus.facts() | {"fitted": len(judge.sample)},
            "points": [point.as_dict() for point in self._points(judge, dims, truncate)],
            "environment": describe(),
            "seconds": time.monotonic() - started,
        }
        write_json(draft.folder / "curve.json", results)
        (draft.folder / "curve.svg").write_text(picture(results), encoding="utf-8")
        return results

    def _pca(self, dim: int, keep: Kept = "variance") -> Pca:
        return Pca(dim=dim, center=self.center, whiten=self.whiten, keep=keep, rotate=self.rotate, sample=self.sample)

    def _points(self, judge: "Judge", dims: Sequence[int], truncate: bool) -> Iterator[Point]:
        """Give the figures of every size, reduction and precision, the model's own vectors last."""
        for dim in dims:
            for keep, name in REDUCTIONS.items():
                if self.keep not in (keep, "both"):
                    continue
                projection, _ = self._pca(dim, keep).choose(judge.sample, judge.dev, judge.dev)
                reduced = Reduced(dim, name, bool(projection.mean.any()))
                yield from judge.points(reduced, {name: projection.apply(v) for name, v in judge.vectors.items()})
            if truncate:
                cut = {name: vectors[:, :dim] for name, vectors in judge.vectors.items()}
                yield from judge.points(Reduced(dim, "truncation"), cut)
        yield from judge.points(Reduced(judge.heldout.shape[1], "none"), judge.vectors)


@dataclass(frozen=True)
class Judge:
    """The model's own vectors of the texts to fit on (``sample``), to choose by, held out, and of each STS file."""

    vectors: Mapping[str, Vectors]
    sets: Sequence[Sts]
    collections: Sequence[Collection] = ()

    @classmethod
    def of(
        cls,
        encoder: Encoder,
        sample: list[str],
        dev: list[str],
        heldout: list[str],
        sets: Sequence[Sts],
        collections: Sequence[Collection] = (),
    ) -> "Judge":
        """Encode every set of texts once."""
        texts = {"sample": sample, "dev": dev, "heldout": heldout} | {f"sts {pairs.key}": pairs.texts for pairs in sets}
        for collection in collections:
            texts[f"queries {collection.key}"] = list(collection.queries.values())
            texts[f"documents {collection.key}"] = list(collection.documents.values())
        encode = {"queries": encoder_for(encoder, "query"), "documents": encoder_for(encoder, "document")}
        with track("encoding", sum(map(len, texts.values()))) as advance:
            vectors = {}
            for name, some in texts.items():
                chunks = []
                for start in range(0, len(some), _CHUNK):
                    by = encode.get(name.partition(" ")[0], encoder.encode)
                    chunks.append(by(some[start : start + _CHUNK], 64))
                    advance(len(chunks[-1]))
                vectors[name] = np.concatenate(chunks)
                check_vectors(vectors[name], "the model")
        return cls(vectors, sets, collections)

    @property
    def sample(self) -> Vectors:
        return self.vectors["sample"]

    @property
    def dev(self) -> Vectors:
        return self.vectors["dev"]

    @property
    def heldout(self) -> Vectors:
        return self.vectors["heldout"]

    def points(self, reduced: Reduced, vectors: Mapping[str, Vectors]) -> Iterator[Point]:
        """Give the figures of reduced vectors in each precision; int8's ranges are fitted on the sample's."""
        # At length 1, as the model with the projection folded in gives them.
        unit = {name: np.asarray(normalized(own), np.float32) for name, own in vectors.items()}
        ranges = Ranges.fit(unit["sample"])
        for precision in FORMS:
            decoded = {name: _decoded(v, precision, ranges) for name, v in unit.items() if name != "sample"}
            sts = {pairs.name: _spearman(pairs, decoded[f"sts {pairs.key}"]) for pairs in self.sets}
            shares = [sts[pairs.name] / full for pairs in self.sets if (full := self._full(pairs))]
            yield Point(
                reduced,
                precision,
                bytes_of(precision, reduced.dim),
                neighbours_in_common(self.heldout, decoded["heldout"]),
                pair_correlation(self.heldout, decoded["heldout"]),
                sts,
                float(np.mean(shares)) if shares else None,
                {own.name: self._found(own, unit, decoded, precision) for own in self.collections},
            )

    def _found(
        self, own: Collection, unit: Mapping[str, Vectors], decoded: Mapping[str, Vectors], precision: VectorPrecision
    ) -> Found:
        """Return what is found by codes alone and, of codes, with the queries' vectors in full for the last order."""
        queries, documents = decoded[f"queries {own.key}"], decoded[f"documents {own.key}"]
        figures = retrieval(own, queries, documents)
        if precision != "float32":
            figures["rescored"] = retrieval(own, queries, documents, unit[f"queries {own.key}"])
        return figures

    def _full(self, pairs: Sts) -> float:
        return _spearman(pairs, self.vectors[f"sts {pairs.key}"])


def _decoded(vectors: Vectors, precision: VectorPrecision, ranges: Ranges) -> Vectors:
    return scored(quantized(vectors, precision, ranges), precision, vectors.shape[1])


def _spearman(pairs: Sts, vectors: Vectors) -> float:
    """Return Spearman's correlation x 100 of the cosines with the scores, as ``Sts.spearman`` gives a model's.

    Returns 0 where all pairs are equally similar, as those of a few bits may be.
    """
    half = len(pairs.first)
    similar = cosines(vectors[:half], vectors[half:])
    return 100 * float(spearmanr(similar, np.array(pairs.scores))[0]) if np.ptp(similar) else 0.0
