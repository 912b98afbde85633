"""The artifacts that are served: each opened once, behind a batcher of its own, and found by its name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressor.artifact.manifest import MANIFEST
from compressor.artifact.prompts import DOCUMENT, QUERY
from compressor.core.encoder import Vectors
from compressor.core.errors import ArtifactError, TextError
from compressor.core.strict_json import JsonObject
from exporters.loading import is_reader
from exporters.reader import OnnxReader
from exporters.runtime.prefixes import normalised, shortened, vector_lengths
from exporters.runtime.prepared import Prepared
from exporters.runtime.windows import gives_unit_vectors
from exporters.server.fields import Item, check_ids
from exporters.server.refused import Refused, too_large, wrong
from exporters.server.settings import Serving
from exporters.serving import Batcher
from exporters.session import OnnxEncoder

TYPES = {"query": QUERY, "document": DOCUMENT}
"""The names of the prompts that an ``input_type`` stands for; the first that there is counts."""


@dataclass(frozen=True)
class Embedder:
    """An encoder that is served."""

    name: str
    encoder: OnnxEncoder
    batcher: Batcher
    lengths: tuple[int, ...]
    """Dimensions that its vectors may have, all of them first."""
    unit: bool
    """Its vectors are of length 1."""

    @classmethod
    def open(cls, name: str, folder: Path, serving: Serving) -> "Embedder":
        encoder = OnnxEncoder(folder, threads=serving.threads)
        batcher = Batcher(encoder, serving.batch_size, most_waiting=serving.waiting_texts)
        lengths = (encoder.dim, *vector_lengths(folder, encoder.dim))
        return cls(name, encoder, batcher, lengths, gives_unit_vectors(folder))

    def facts(self) -> JsonObject:
        return {"task": "sentence-embedding", "dimensions": list(self.lengths), "max_tokens": self.encoder.max_length}

    def prompt(self, field: str, name: str | None, items: Sequence[Item]) -> str:
        """Return the prompt of a name, or the default one; none before token ids, which stand as they are."""
        try:
            prompt = self.encoder.prompts.choose(name)
        except TextError as error:
            raise Refused(400, f"{field}: {error}", field, "invalid_value") from error
        if isinstance(items[0], str):
            return prompt
        if prompt and name is not None:
            raise Refused(
                400, f"{field}: no prompt can be put before token ids; send texts, or leave it out", field, "no_prompt"
            )
        return ""

    def prepare(self, field: str, items: Sequence[Item], prompt: str, whole: bool = False) -> list[Prepared]:
        """Return the tokens of each item, texts behind ``prompt``; ``whole``: refuse a text that would be cut."""
        limit, ids = self.encoder.max_length, [item for item in items if not isinstance(item, str)]
        texts = [item for item in items if isinstance(item, str)]
        if ids:
            check_ids(field, ids, self.encoder.words.vocabulary, limit)
        else:
            ids = self.encoder.tokenize(texts, prompt)
        if texts and whole:
            full = [row for row, tokens in enumerate(ids) if len(tokens) >= limit]
            for row, length in zip(
                full, self.encoder.words.lengths([prompt + texts[row] for row in full]), strict=True
            ):
                if length > limit:
                    raise too_large(field, f"{field}[{row}]: {length} tokens; the model reads at most {limit}")
        return [Prepared(1, len(tokens), tokens) for tokens in ids]

    def cut(self, vectors: Vectors, dimensions: int | None, unit: bool) -> Vectors:
        """Return vectors of as many dimensions as are asked for, float32 [n, dimensions]; ``unit``: of length 1."""
        if not np.isfinite(vectors).all():
            raise ArtifactError(f"{self.encoder.folder}: gave a vector that is not finite")
        if dimensions is not None and dimensions != self.encoder.dim:
            return shortened(vectors, dimensions, unit)
        return normalised(vectors) if unit and not self.unit else vectors

    def check_dimensions(self, dimensions: int | None) -> None:
        """Refuse a length that the vectors cannot be cut to."""
        if dimensions is not None and dimensions not in self.lengths:
            allowed = " or ".join(map(str, self.lengths))
            reason = "" if len(self.lengths) > 1 else f": the vectors of {self.name} cannot be cut"
            raise wrong("dimensions", dimensions, f"{allowed}{reason}")


@dataclass(frozen=True)
class Answerer:
    """A reader that is served."""

    name: str
    reader: OnnxReader
    batcher: Batcher

    @classmethod
    def open(cls, name: str, folder: Path, serving: Serving) -> "Answerer":
        reader = OnnxReader(folder, threads=serving.threads)
        return cls(name, reader, Batcher(reader, serving.batch_size, most_waiting=serving.waiting_texts))

    def facts(self) -> JsonObject:
        return {"task": "question-answering", "max_tokens": self.reader.reading.max_length}

    def prepare(self, pairs: Sequence[tuple[str, str]]) -> list[Prepared]:
        """Return the windows of each question and its context."""
        return [self.reader.prepare(question, context) for question, context in pairs]


Model = Embedder | Answerer


@dataclass(frozen=True)
class Models:
    """What is served, by name."""

    by_name: Mapping[str, Model]
    created: Mapping[str, int]
    """When each was made, in seconds since 1970."""

    @classmethod
    def open(cls, folders: Mapping[str, Path], serving: Serving) -> "Models":
        """Open artifacts that were checked; ArtifactError for one that is none."""
        opened: dict[str, Model] = {}
        for name, folder in folders.items():
            kind = Answerer if is_reader(folder) else Embedder
            opened[name] = kind.open(name, folder, serving)
        return cls(opened, {name: int((folder / MANIFEST).stat().st_mtime) for name, folder in folders.items()})

    def embedder(self, name: str | None) -> Embedder:
        """Return the encoder of a name, or the only one."""
        model = self.find(name, [model for model in self.by_name.values() if isinstance(model, Embedder)], "encoder")
        if not isinstance(model, Embedder):
            raise Refused(400, f"model = {model.name!r}: answers questions; ask it at /answer", "model", "wrong_task")
        return model

    def answerer(self, name: str | None) -> Answerer:
        """Return the reader of a name, or the only one."""
        model = self.find(name, [model for model in self.by_name.values() if isinstance(model, Answerer)], "reader")
        if not isinstance(model, Answerer):
            raise Refused(400, f"model = {model.name!r}: an encoder; ask it at /v1/embeddings", "model", "wrong_task")
        return model

    def find(self, name: str | None, fitting: Sequence[Model] = (), kind: str = "model") -> Model:
        if name is None and len(fitting) == 1:
            return fitting[0]
        if name is None:
            raise Refused(400, f"model: missing; {self._known(fitting, kind)}", "model", "missing")
        if name not in self.by_name:
            known = self._known(list(self.by_name.values()), "model")
            raise Refused(404, f"model = {name!a:.60}: not served here; {known}", "model", "model_not_found")
        return self.by_name[name]

    def _known(self, models: Sequence[Model], kind: str) -> str:
        names = ", ".join(model.name for model in models)
        return f"served are {names}" if models else f"no {kind} is served here"

    def close(self) -> None:
        """Compute what waits, and end."""
        for model in self.by_name.values():
            model.batcher.close()
