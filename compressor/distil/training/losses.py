"""What a student is asked to imitate: the teacher's vectors, their similarities, its inner states."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from torch.nn.functional import normalize

from compressor.core.config import Config
from compressor.models.projection import Projection
from compressor.vectors.distances import cosine, margin, mse, order, pairwise, ranking


def _not_negative(weight: float | tuple[float, float]) -> float | tuple[float, float]:
    if min(weight if isinstance(weight, tuple) else (weight,)) < 0:
        raise ValueError("must not be negative")
    return weight


NAMES = ("mse", "cosine", "pairwise", "ranking", "order", "margin", "hidden", "attention")
"""The fields of ``Losses`` that are weights."""
Weight = Annotated[float | tuple[float, float], AfterValidator(_not_negative)]


class Losses(Config):
    """The losses and their weights: one number, or two for a straight line from start to end of training."""

    mse: Weight = 1.0
    """Squared distance to the teacher's vector."""
    cosine: Weight = 0.0
    """One minus the cosine with the teacher's vector."""
    pairwise: Weight = 0.0
    """Squared difference of the similarities of all pairs in the batch from the teacher's, like pairs weighing more."""
    ranking: Weight = 0.0
    """Cross-entropy of finding a text's own teacher vector among those of the batch."""
    order: Weight = 0.0
    """Divergence of how a text ranks a bank of the teacher's vectors from how the teacher's own vector ranks them: more
    texts than a batch holds, which is what search is about."""
    margin: Weight = 0.0
    """Squared difference of how much nearer a text is to one of its neighbours than to another from what it is for the
    teacher. The neighbours are the nearest of up to 32,768 texts by the teacher's vectors, found before the training
    and, as those vectors, kept in the cache and outside the time budget."""
    hidden: Weight = 0.0
    """Squared difference of token states from those of the teacher's layers that the student's stand for."""
    attention: Weight = 0.0
    """Squared difference of attention from that of the teacher's layers that the student's stand for."""
    pairwise_power: Annotated[float, Field(ge=0)] = 2.0
    """A pair weighs as the teacher's similarity to this power; 0: all pairs weigh the same."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """Similarities are divided by it in the losses ranking and order."""
    bank: Annotated[int, Field(ge=2)] = 4096
    """Vectors of the teacher that the loss order ranks, drawn anew for each batch."""
    negatives: Annotated[int, Field(ge=1, le=255)] = 15
    """Neighbours beside the nearest that the loss margin compares: hard negatives, of which each is nearer than the
    next."""
    matryoshka: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Lengths of prefixes of the vector that are trained as vectors of their own, beside the whole."""

    def weights(self, progress: float) -> dict[str, float]:
        """Return the weights above zero at ``progress``, 0 to 1, of the training."""
        now = {name: _at(getattr(self, name), progress) for name in NAMES}
        return {name: weight for name, weight in now.items() if weight > 0}

    @property
    def asked(self) -> set[str]:
        """Return the names of the losses that have weight at some time."""
        return set(self.weights(0.0)) | set(self.weights(1.0))


def _at(weight: float | tuple[float, float], progress: float) -> float:
    start, end = weight if isinstance(weight, tuple) else (weight, weight)
    return start + (end - start) * progress


class Targets:
    """The teacher's vectors by the number of the text, and what a student of ``dim`` dimensions is to make of them.

    With a ``projection`` (what matters most in its first rows) the student's space is the projected one; a prefix of
    it, made unit length again, is the target of the student's prefix.
    """

    def __init__(
        self,
        vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]],
        projection: Projection | None,
        count: int = 0,
        neighbours: NDArray[np.int32] | None = None,
    ) -> None:
        """``count``: of the texts that there are vectors of; ``neighbours``: numbers of each one's, [count, n]."""
        self.vectors, self.count, self.neighbours = vectors, count, neighbours
        self.components = None if projection is None else torch.from_numpy(projection.components)

    def of(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the teacher's vectors of the texts ``labels`` (int64 [batch]), float32 [batch, width]."""
        return torch.from_numpy(self.vectors(labels.cpu().numpy())).to(labels.device)

    def bank(self, labels: torch.Tensor, size: int) -> torch.Tensor:
        """Return the teacher's vectors of ``size`` texts, float32 [size, width]: the same for the same batch."""
        seed = np.random.default_rng(np.sort(labels.cpu().numpy()))
        first = int(seed.integers(self.count))  # texts lie in random order: a run of them is a random sample
        return self.of(torch.from_numpy((first + np.arange(min(size, self.count))) % self.count)).to(labels.device)

    def near(self, labels: torch.Tensor) -> torch.Tensor:
        """Return the teacher's vectors of the texts' neighbours, float32 [batch, n, width], nearest first."""
        if self.neighbours is None:
            raise ValueError("no neighbours were mined")
        rows = torch.from_numpy(self.neighbours[labels.cpu().numpy()]).long()
        return self.of(rows.flatten()).reshape(*rows.shape, -1).to(labels.device)

    def reduced(self, teacher: torch.Tensor, dim: int) -> torch.Tensor:
        """Return the teacher's vectors in the first ``dim`` dimensions of the student's space, float32 […, dim]."""
        if self.components is None:
            return teacher
        return normalize(teacher @ self.components[:dim].T.to(teacher.device), dim=-1)


class Imitation(torch.nn.Module):
    """The weighted sum of the losses of a batch; a label is the number of its text."""

    def __init__(
        self,
        model: Any,
        losses: Losses,
        targets: Targets,
        states: Callable[[dict[str, Any]], dict[str, torch.Tensor]] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.losses, self.targets, self.states = model, losses, targets, states
        self.progress = 0.0

    def forward(self, sentence_features: Any, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss of one batch, a scalar."""
        (features,) = sentence_features
        inputs = dict(features)
        weights = self.losses.weights(self.progress)
        teacher = self.targets.of(labels)
        student = self.model(features)["sentence_embedding"].float()
        bank = self.targets.bank(labels, self.losses.bank) if "order" in weights else teacher
        near = self.targets.near(labels) if "margin" in weights else teacher[:, None]
        total = student.new_zeros(())
        dims = (student.shape[1], *self.losses.matryoshka)
        for dim in dims:
            total = total + self._of_vectors(student, teacher, bank, near, dim, weights) / len(dims)
        if self.states is not None:
            for name, value in self.states(inputs).items():
                total = total + weights.get(name, 0.0) * value
        return total

    def _of_vectors(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        bank: torch.Tensor,
        near: torch.Tensor,
        dim: int,
        weights: dict[str, float],
    ) -> torch.Tensor:
        """Return the losses of the vectors' first ``dim`` dimensions (Kusupati et al. 2022, arXiv:2205.13147)."""
        own, wanted = student[:, :dim], self.targets.reduced(teacher, dim)
        own = own if dim == student.shape[1] else normalize(own, dim=1)
        terms = {
            "mse": lambda: mse(own, wanted),
            "cosine": lambda: cosine(own, wanted),
            # In full: what the reduced space is to keep is the teacher's own similarities.
            "pairwise": lambda: pairwise(own, teacher, self.losses.pairwise_power),
            "ranking": lambda: ranking(own, wanted, self.losses.temperature),
            "order": lambda: order(own, wanted, self.targets.reduced(bank, dim), self.losses.temperature),
            "margin": lambda: margin(own, wanted, self.targets.reduced(near, dim)),
        }
        used = [weights[name] * term() for name, term in terms.items() if name in weights]
        return sum(used, start=own.new_zeros(()))
