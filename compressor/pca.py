"""Reduce the vectors by a principal component analysis folded into the model as one Dense layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from compressor.agreement import Heldout, neighbours_in_common, normalized
from compressor.artifact import Draft
from compressor.encoder import Vectors
from compressor.errors import RecipeError, TextError
from compressor.projection import Projection
from compressor.recipe import Config
from compressor.sentence_model import TorchEncoder, embedding_dimension, open_model


class Pca(Config):
    """Reduce the vectors to their principal components."""

    dim: Annotated[int, Field(ge=2)] = 256
    """Length of the reduced vectors; at most the student's."""
    center: Literal["auto"] | bool = "auto"
    """Take the mean off before projecting; auto: whichever keeps more neighbours of the held-out texts."""
    sample: Annotated[int, Field(ge=100)] = 20_000
    """Training texts that the components are fitted on, at most."""

    def run(
        self,
        student: Path,
        texts: Sequence[str],
        heldout: Heldout,
        draft: Draft,
    ) -> None:
        """Write the student with the projection as its last Dense, then Normalize, into ``draft``."""
        model = open_model(student)
        self.check(embedding_dimension(model), len(texts))
        encoder = TorchEncoder(model)
        sample = encoder.encode(texts[: self.sample], batch_size=64)
        own = encoder.encode(heldout.texts, batch_size=64)
        projection, kept = self._choose(sample, own, heldout.teacher)
        reduced = fold(model, projection)
        reduced.save_pretrained(str(draft.folder), create_model_card=False, safe_serialization=True)
        projection.save(draft.folder)
        draft.figures["centered"] = bool(projection.mean.any())
        draft.figures["neighbours_at_10"] = kept
        kept_variance = projection.apply(sample).var(axis=0).sum() / sample.var(axis=0).sum()
        draft.figures["variance_kept"] = float(kept_variance)

    def check(self, width: int, texts: int) -> None:
        if self.dim > width:
            raise RecipeError(f"pca.dim = {self.dim}: must be at most {width}, the length of the student's vectors")
        if self.sample < self.dim:
            raise RecipeError(f"pca.sample = {self.sample}: must be at least {self.dim}, the components to fit")
        if texts < self.dim:
            raise TextError(f"{texts} texts are too few to fit {self.dim} components; at least {self.dim} are needed")

    def _choose(self, sample: Vectors, own: Vectors, teacher: Vectors) -> tuple[Projection, dict[str, float]]:
        choices = (False, True) if self.center == "auto" else (bool(self.center),)
        fitted = {center: fit(sample, self.dim, center) for center in choices}
        kept = {c: neighbours_in_common(teacher, normalized(p.apply(own))) for c, p in fitted.items()}
        best = max(choices, key=lambda center: kept[center])
        return fitted[best], {"centered" if c else "uncentered": v for c, v in kept.items()}


def fit(vectors: Vectors, dim: int, center: bool) -> Projection:
    """Return the ``dim`` directions of largest second moment, about the mean if ``center``, else about zero.

    Pearson 1901, doi:10.1080/14786440109462720; centred, it is scikit-learn's PCA. Signs are fixed by
    making the largest entry of a component positive, so that equal input gives equal bytes.
    """
    sample = vectors.astype(np.float64)
    mean = sample.mean(axis=0) if center else np.zeros(sample.shape[1])
    deviations = sample - mean
    _, directions = np.linalg.eigh(deviations.T @ deviations)
    components = directions[:, ::-1][:, :dim].T
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(dim), largest])[:, None]
    return Projection(components.astype(np.float32), mean.astype(np.float32))


def fold(model: SentenceTransformer, projection: Projection) -> SentenceTransformer:
    """Return a new model: the given one's modules, one Dense with the projection, Normalize.

    Without a mean to take off, an earlier Normalize changes nothing and is left out.
    """
    dim, width = projection.components.shape
    centered = bool(projection.mean.any())
    modules = list(model)
    if not centered and isinstance(modules[-1], Normalize):
        modules.pop()
    dense = Dense(width, dim, bias=centered, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(projection.components))
        if centered:
            dense.linear.bias.copy_(torch.from_numpy(-(projection.components @ projection.mean)))
    return SentenceTransformer(modules=[*modules, dense, Normalize()], device="cpu")
