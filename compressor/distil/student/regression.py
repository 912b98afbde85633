"""Least squares in one pass over batches, drawn towards what the teacher's own weights say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear

RIDGE = 5e-2
"""Weight of the prior, as a share of the mean second moment of the inputs."""


@dataclass(frozen=True)
class Rows:
    """Inputs [n, in], for each of some linear layers its targets [n, out], and what an error counts [n, 1]."""

    inputs: Tensor
    targets: Sequence[Tensor]
    weights: Tensor | float = 1.0


class Regression:
    """Sums for the linear maps from inputs [n, p] to targets [n, q], in float64; no sample is kept."""

    def __init__(self) -> None:
        self.inputs: Tensor = torch.zeros(())
        self.products: Tensor = torch.zeros(())

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Count in some rows."""
        self.inputs = self.inputs + (inputs.T @ inputs).double()
        self.products = self.products + (inputs.T @ targets).double()

    def solve(self, prior: Tensor, ridge: float = RIDGE) -> Tensor:
        """Return the map [p, q] of least squared error, with a ridge towards ``prior`` (Hoerl and Kennard 1970)."""
        prior = prior.double()
        return prior + torch.linalg.solve(ridged(self.inputs, ridge), self.products - self.inputs @ prior)

    def solve_residual(self, prior: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Return map [p - width, width] and gain [width] where the last ``width`` inputs are a residual stream.

        A unit of the target then sees all other inputs, but of the residual stream only its own unit, times its
        gain. The gain comes first, from what the other inputs do not explain (Frisch and Waugh 1933). Both are
        drawn towards ``prior`` and ``gain`` as given.
        """
        map_, gain = prior.double(), gain.double()
        other, stream = slice(None, len(map_)), slice(len(map_), None)
        cross, own = self.inputs[other, stream], self.inputs[stream, stream].diagonal()
        missing = self.products[other] - self.inputs[other, other] @ map_ - cross * gain
        missing_own = self.products[stream].diagonal() - (cross * map_).sum(0) - own * gain
        inverse = torch.linalg.inv(ridged(self.inputs[other, other]))
        explained = inverse @ cross
        unexplained = own - (cross * explained).sum(0) + RIDGE * own.mean()
        step = (missing_own - (explained * missing).sum(0)) / unexplained
        return map_ + inverse @ (missing - cross * step), gain + step


def ridged(moments: Tensor, ridge: float = RIDGE) -> Tensor:
    """Return ``moments`` [p, p] with the ridge on the diagonal."""
    diagonal = ridge * moments.diagonal().mean().clamp(min=1e-12)
    return moments + diagonal * torch.eye(len(moments), dtype=moments.dtype, device=moments.device)


def with_one(inputs: Tensor) -> Tensor:
    """Return ``inputs`` [n, p] with a column of ones, for the bias."""
    return torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)


def refit(parts: Sequence[Linear], priors: Sequence[Tensor], rows: Iterable[Rows]) -> None:
    """Refit linear layers that read the same inputs, in place, a bias where a layer has one.

    ``priors`` are their maps [out, in + 1], the bias last, or [out, in] without one.
    """
    fits = [Regression() for _ in parts]
    for some in rows:
        for part, fit, target in zip(parts, fits, some.targets, strict=True):
            inputs = some.inputs if part.bias is None else with_one(some.inputs)
            fit.add(inputs * some.weights, target * some.weights)
    for part, prior, fit in zip(parts, priors, fits, strict=True):
        put(part, fit.solve(prior.T).T)


def map_of(part: Linear) -> Tensor:
    """Return a linear layer as a map [out, in + 1], the bias last; [out, in] without one."""
    return part.weight if part.bias is None else torch.cat([part.weight, part.bias[:, None]], 1)


def put(part: Linear, map_: Tensor, rows: slice = slice(None)) -> None:
    """Write a map as ``map_of`` gives it into some rows of a linear layer."""
    part.weight[rows] = map_[:, : part.in_features].to(part.weight.dtype)
    if part.bias is not None:
        part.bias[rows] = map_[:, -1].to(part.bias.dtype)


def fit_normalization(norm: LayerNorm, outputs: list[Tensor], targets: list[Tensor]) -> None:
    """Refit the gain and bias of ``norm`` in place, each unit by itself; ``outputs`` are what it puts out now.

    Both lists hold [tokens, width]. A unit that does not vary keeps its gain.
    """
    gain, bias = norm.weight.double(), norm.bias.double()
    made, wanted = torch.cat(outputs).double(), torch.cat(targets).double()
    centred = (made - made.mean(0)) / gain
    spread = centred.square().mean(0)
    missing = (centred * (wanted - wanted.mean(0) - centred * gain)).mean(0)
    refitted = gain + missing / (spread + 1e-9)
    norm.weight.copy_(refitted)
    norm.bias.copy_(wanted.mean(0) - refitted * (made.mean(0) - bias) / gain)
