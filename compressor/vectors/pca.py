"""Reduce the vectors by a principal component analysis folded into the model as one Dense layer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, StaticEmbedding

from compressor.artifact.folder import Draft
from compressor.core.config import Config
from compressor.core.encoder import Vectors
from compressor.core.errors import RecipeError, TextError
from compressor.models.agreement import Heldout, check_vectors, neighbours_in_common, normalized
from compressor.models.projection import Projection
from compressor.models.sentence_model import TorchEncoder, assembled, embedding_dimension, open_model
from compressor.vectors.similarities import keep_similarities

_ROTATION_TEXTS, _ROTATION_STEPS = 10_000, 30


class Pca(Config):
    """Reduce the vectors to their principal components."""

    dim: Annotated[int, Field(ge=2)] = 256
    """Length of the reduced vectors; at most the student's."""
    center: Literal["auto"] | bool = "auto"
    """Take the mean off before projecting; auto: whichever ranks the most similar of the texts to choose by more as the
    teacher does."""
    whiten: Annotated[float, Field(ge=0, le=1)] = 0.0
    """How far to even out the components: each is scaled by its variance to the power of -whiten/2; 1 makes all of
    variance 1 and uncorrelated. Below 64 dimensions, about 0.5 may keep more than 0 does."""
    keep: Literal["variance", "similarities"] = "variance"
    """What the reduced space is chosen for: the ``variance`` of the vectors, as PCA has it, or the ``similarities`` of
    related texts, which the components are then trained to keep: at 64 dimensions and below pairs are then ranked much
    more as people do, and fewer of the same neighbours are found."""
    pairwise_power: Annotated[float, Field(ge=0)] = 3.0
    """For ``similarities``: a pair weighs as its similarity to this power. More ranks pairs as people score them, less
    finds more of the same neighbours."""
    prefixes: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """For ``similarities``: lengths below ``dim`` at which the vectors may be cut, each a vector of its own."""
    rotate: bool = False
    """Turn the reduced vectors so that int8 and binary forms of them keep more; their cosines stay as they are. The
    components are then no longer in the order of their variance."""
    sample: Annotated[int, Field(ge=100)] = 20_000
    """Training texts that the components are fitted on, at most."""

    def run(
        self,
        student: Path,
        texts: Sequence[str],
        dev: Heldout,
        draft: Draft,
        earlier: Projection | None = None,
    ) -> None:
        """Write the student with the projection as its last Dense, then Normalize, into ``draft``.

        The projection is kept beside it, as a map of the teacher's vectors: behind ``earlier``, which is the one to
        the student's, where these are in another space; where no map does both, none is kept.
        """
        model = open_model(student)
        self.check(embedding_dimension(model), len(texts))
        encoder = TorchEncoder(model)
        sample = encoder.encode(texts[: self.sample], batch_size=64)
        own = encoder.encode(dev.texts, batch_size=64)
        projection, kept = self.choose(sample, own, dev.teacher)
        reduced = fold(model, projection)
        reduced.save_pretrained(str(draft.folder), create_model_card=False, safe_serialization=True)
        if (whole := projection if earlier is None else projection.after(earlier)) is not None:
            whole.save(draft.folder)
        draft.figures["centered"] = bool(projection.mean.any())
        draft.figures.update(kept)
        kept_variance = projection.lift(projection.apply(sample)).var(axis=0).sum() / sample.var(axis=0).sum()
        draft.figures["variance_kept"] = float(kept_variance)

    def check(self, width: int, texts: int) -> None:
        if self.dim > width:
            raise RecipeError(f"pca.dim = {self.dim}: must be at most {width}, the length of the student's vectors")
        if self.keep == "similarities" and self.whiten:
            raise RecipeError(
                f"pca.whiten = {self.whiten:g}: not with keep = similarities, which sets the scales itself"
            )
        if self.prefixes and (self.keep != "similarities" or max(self.prefixes) >= self.dim or self.rotate):
            raise RecipeError(
                f"pca.prefixes = {list(self.prefixes)}: must be below dim = {self.dim}, with keep = similarities, "
                "and without rotate"
            )
        if self.sample < self.dim:
            raise RecipeError(f"pca.sample = {self.sample}: must be at least {self.dim}, the components to fit")
        if texts < self.dim:
            raise TextError(f"{texts} texts are too few to fit {self.dim} components; at least {self.dim} are needed")

    def choose(self, sample: Vectors, own: Vectors, teacher: Vectors) -> tuple[Projection, dict[str, dict[str, float]]]:
        """Fit on ``sample``, float32 [n, width], and choose the mean by other texts, on which nothing is reported.

        ``own``, float32 [m, width], are those texts' vectors to reduce, ``teacher`` those to agree with. Returns
        the projection, and for each choice tried its ``pair_correlation``, which decides, and ``neighbours_at_10``.
        """
        choices = (False, True) if self.center == "auto" else (bool(self.center),)
        fitted = {center: fit(sample, self.dim, center, self.whiten) for center in choices}
        if self.keep == "similarities":
            fitted = {
                center: keep_similarities(components, sample, self.prefixes, self.pairwise_power)
                for center, components in fitted.items()
            }
        reduced = {center: normalized(projection.apply(own)) for center, projection in fitted.items()}
        near = {center: neighbours_in_common(teacher, vectors) for center, vectors in reduced.items()}
        order = {center: pair_correlation(teacher, vectors) for center, vectors in reduced.items()}
        best = fitted[max(choices, key=lambda center: order[center])]
        names = {False: "uncentered", True: "centered"}
        kept = {"pair_correlation": order, "neighbours_at_10": near}
        figures = {name: {names[c]: v for c, v in values.items()} for name, values in kept.items()}
        return (rotated(best, sample) if self.rotate else best), figures


def pair_correlation(teacher: Vectors, vectors: Vectors, k: int = 10) -> float:
    """Return Spearman's correlation of the cosines of pairs of texts in both spaces, over the most similar pairs.

    These are the ``k`` pairs a text that the teacher finds most similar, or all, if there are fewer. Among all pairs,
    the unrelated ones would decide; on these it orders projections as their correlation with human scores does (STS).
    Returns 0 where all pairs are equally similar.
    """
    upper = np.triu_indices(len(teacher), 1)
    teacher_cosines, own_cosines = ((unit @ unit.T)[upper] for unit in (normalized(teacher), normalized(vectors)))
    count = min(k * len(teacher), len(teacher_cosines))
    similar = np.argpartition(-teacher_cosines, count - 1)[:count]
    teacher_cosines, own_cosines = teacher_cosines[similar], own_cosines[similar]
    return float(spearmanr(teacher_cosines, own_cosines)[0]) if np.ptp(teacher_cosines) and np.ptp(own_cosines) else 0.0


def fit(vectors: Vectors, dim: int, center: bool, whiten: float = 0.0) -> Projection:
    """Return the ``dim`` directions of largest second moment, about the mean if ``center``, else about zero.

    Pearson 1901, doi:10.1080/14786440109462720; centred, it is scikit-learn's PCA. Signs are fixed by
    making the largest entry of a component positive, so that equal input gives equal bytes. ``whiten``
    scales a component by its moment to the power of -whiten/2 (Su et al. 2021, arXiv:2103.15316; Huang et
    al. 2021, arXiv:2104.01767); TextError where the vectors do not vary in ``dim`` directions. ModelError where they
    are not numbers, or all the same.
    """
    check_vectors(vectors, "pca: the model to reduce")
    sample = vectors.astype(np.float64)
    mean = sample.mean(axis=0) if center else np.zeros(sample.shape[1])
    deviations = sample - mean
    moments, directions = np.linalg.eigh(deviations.T @ deviations / len(sample))
    components = directions[:, ::-1][:, :dim].T
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(dim), largest])[:, None]
    if whiten:
        components = components * _scales(moments[::-1][:dim], whiten)[:, None]
    return Projection(components.astype(np.float32), mean.astype(np.float32))


def _scales(moments: NDArray[np.float64], whiten: float) -> NDArray[np.float64]:
    """Return the factor of each component."""
    varied = int((moments > 1e-9 * moments[0]).sum())
    if varied < len(moments):
        raise TextError(f"the vectors vary in {varied} directions only; {len(moments)} cannot be whitened")
    return moments ** (-whiten / 2)


def rotated(projection: Projection, sample: Vectors) -> Projection:
    """Return the projection turned so that the signs of reduced vectors say the most about them.

    Iterative quantization (Gong and Lazebnik 2011, doi:10.1109/CVPR.2011.5995432), on ``sample``, float32 [n, width],
    from a random turn of fixed seed. A turn spreads the variance over all dimensions, so that one range and one bit
    serve each of them alike. The mean's direction becomes a dimension of its own: spread too, it would fix all signs.
    """
    reduced = normalized(projection.apply(sample[:_ROTATION_TEXTS]))
    basis = np.random.default_rng(0).normal(size=(reduced.shape[1],) * 2).astype(np.float32)
    basis[:, 0] = reduced.mean(axis=0)
    basis, _ = np.linalg.qr(basis)
    rest = basis[:, 1:]
    for _ in range(_ROTATION_STEPS):
        within = reduced @ rest
        left, _, right = np.linalg.svd(within.T @ np.where(within > 0, np.float32(1), np.float32(-1)))
        rest = rest @ left @ right
    turn = np.hstack([basis[:, :1], rest])
    return Projection(turn.T @ projection.components, projection.mean)


def fold(model: SentenceTransformer, projection: Projection) -> SentenceTransformer:
    """Return a new model: the given one's modules, one Dense with the projection, Normalize.

    A static model takes a projection without a mean into its table.
    Without a mean to take off, an earlier Normalize changes nothing and is left out.
    """
    dim = len(projection.components)
    centered = bool(projection.mean.any())
    modules = list(model)
    if not centered and isinstance(modules[-1], Normalize):
        modules.pop()
    if not centered and len(modules) == 1 and isinstance(modules[0], StaticEmbedding):
        # The mean of projected token vectors is the projected mean.
        table = modules[0].embedding.weight.detach() @ torch.from_numpy(projection.components).T
        return assembled(model, [StaticEmbedding(modules[0].tokenizer, table), Normalize()])
    weight = torch.from_numpy(projection.components)
    bias = -(weight @ torch.from_numpy(projection.mean)) if centered else None
    if isinstance(modules[-1], Dense) and isinstance(modules[-1].activation_function, torch.nn.Identity):
        linear: Any = modules.pop().linear  # two linear layers in a row are one
        bias = bias if linear.bias is None else weight @ linear.bias.detach() + (0 if bias is None else bias)
        weight = weight @ linear.weight.detach()
    dense = Dense(weight.shape[1], dim, bias=bias is not None, activation_function=torch.nn.Identity())
    with torch.no_grad():
        dense.linear.weight.copy_(weight)
        if bias is not None:
            dense.linear.bias.copy_(bias)
    return assembled(model, [*modules, dense, Normalize()])
