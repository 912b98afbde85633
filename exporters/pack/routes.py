"""Student and teacher as the two routes of one sentence-transformers model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router

from compressor.artifact.cases import TEXTS
from compressor.artifact.prompts import DOCUMENT, QUERY
from compressor.core.errors import ArtifactError, ModelError
from compressor.core.strict_json import read_json
from compressor.models.agreement import cosines
from compressor.models.projection import PROJECTION, Projection
from compressor.models.sentence_model import TorchEncoder, embedding_dimension, open_model
from compressor.untrusted.router import LISTS, PARAMETERS, WHOLE
from compressor.vectors.pca import fold
from exporters.pack.target import write_text
from exporters.session import OnnxEncoder

DIFFERENCE_MAX = 1e-5
_ALIKE = 0.9  # mean cosine of an artifact with its student; int8 of any use is nearer
_SENTENCES = (
    "Two dogs are running over a field, and a third one sleeps.",
    "How is the length of a vector measured?",
    "The old house near the river is red, and the new one is green.",
    "A small cat plays.",
)


@dataclass(frozen=True)
class Routes:
    """What reads queries, and what reads documents into the same space."""

    query: SentenceTransformer
    document: SentenceTransformer
    reduced: bool
    """The teacher's vectors go through the student's projection."""

    @classmethod
    def of(cls, artifact: Path, student: Path, teacher: Path) -> "Routes":
        """Open both, the student's projection behind the teacher where there is one.

        ModelError where the student is not the artifact's, or the lengths of the vectors do not fit.
        """
        query, document = open_model(student), open_model(teacher)
        _check_student(artifact, student, query)
        projection = Projection.load(artifact) or Projection.load(student)
        own, width = embedding_dimension(query), embedding_dimension(document)
        if (own == width) if projection is None else projection.components.shape == (own, width):
            return cls(query, document if projection is None else fold(document, projection), projection is not None)
        given = f"no {PROJECTION}" if projection is None else f"{PROJECTION} is of {projection.components.shape}"
        raise ModelError(f"{student}: vectors of length {own}, those of {teacher} have {width}; {given}")

    def save(self, folder: Path) -> None:
        """Write the model, its classes by the names that all releases of sentence-transformers know."""
        query, document = list[Any](self.query), list[Any](self.document)
        router = Router.for_query_document(query, document)
        model = SentenceTransformer(
            modules=[router],
            device="cpu",
            prompts=self.prompts,
            default_prompt_name=self.document.default_prompt_name,
            similarity_fn_name=self.document.similarity_fn_name,
        )
        model.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
        modules, config = (folder / name for name in LISTS)
        stated = read_json(config)
        types = {name: f"sentence_transformers.models.{_class(kind)}" for name, kind in stated["types"].items()}
        _write(modules, WHOLE)
        _write(config, {"types": types, "structure": stated["structure"], "parameters": dict(PARAMETERS)})

    @property
    def prompts(self) -> dict[str, str]:
        """The teacher's prompts, with what the student puts before a query: each route has its own."""
        stated = {name: prompt or "" for name, prompt in self.document.prompts.items()}
        return stated | {QUERY[0]: _prompt(self.query, QUERY), DOCUMENT[0]: _prompt(self.document, DOCUMENT)}

    def differences(self, folder: Path) -> dict[str, float]:
        """Return by how much each route of the model in ``folder`` differs from its part on hard texts.

        ArtifactError where that is more than DIFFERENCE_MAX.
        """
        texts = [text * times for text, times in TEXTS.values()]
        made = TorchEncoder(SentenceTransformer(str(folder), device="cpu", local_files_only=True))
        query, document = TorchEncoder(self.query), TorchEncoder(self.document)
        found = {
            "query": float(np.abs(made.encode_query(texts) - query.encode_query(texts)).max()),
            "document": float(np.abs(made.encode_document(texts) - document.encode_document(texts)).max()),
        }
        for route, worst in found.items():
            if not worst <= DIFFERENCE_MAX:  # a NaN is not
                raise ArtifactError(
                    f"router: {route} differs from its model by {worst:.2g}; at most {DIFFERENCE_MAX:g}"
                )
        return found


def _check_student(artifact: Path, folder: Path, student: SentenceTransformer) -> None:
    """Raise ModelError where the artifact cannot have been made of this student."""
    encoder, own = OnnxEncoder(artifact, threads=1), TorchEncoder(student)
    if encoder.dim != own.dim:
        lengths = f"vectors of length {own.dim}, those of {artifact} have {encoder.dim}"
        raise ModelError(f"{folder}: {lengths}; not its student")
    cosine = float(cosines(encoder.encode(list(_SENTENCES)), own.encode(_SENTENCES)).mean())
    if not cosine >= _ALIKE:
        raise ModelError(f"{folder}: vectors of cosine {cosine:.3f} with those of {artifact}; not its student")


def _prompt(model: SentenceTransformer, names: tuple[str, ...]) -> str:
    """Return what the model puts before the texts of a role: the first of its prompts of these names."""
    return next((model.prompts[name] or "" for name in names if name in model.prompts), "")


def _class(kind: str) -> str:
    return kind.rpartition(".")[2]


def _write(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")
