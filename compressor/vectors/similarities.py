"""Turn principal components into the directions that keep the similarities of related texts."""

from collections.abc import Sequence

import numpy as np
import torch

from compressor.core.encoder import Vectors
from compressor.core.errors import TextError
from compressor.core.progress import track
from compressor.models.projection import Projection
from compressor.vectors.distances import pairwise

_STEPS, _BATCH, _RATE = 1000, 256, 1e-2


def keep_similarities(start: Projection, vectors: Vectors, dims: Sequence[int] = (), power: float = 1.0) -> Projection:
    """Return ``start`` trained for its coordinates to have the cosines of ``vectors``, float32 [n, width].

    Principal components keep the lengths of all vectors as well as they can; what a smaller vector is for is the
    order of related texts. A linear map is trained for that, in seconds and with no model run: the pairwise loss
    (see ``distances.pairwise``) of all the coordinates, and of the first ``dims`` of them as vectors of their own
    (Kusupati et al. 2022, arXiv:2205.13147), so that the result may be cut there. More ``power`` gives near pairs
    more weight: it ranks pairs of texts better, as people score them, and finds fewer of the same neighbours. The
    rows are no longer orthonormal; the mean stays. Raises TextError for fewer than two vectors.
    """
    if len(vectors) < 2:
        raise TextError(f"{len(vectors)} vectors are too few to keep similarities of")
    weights = torch.from_numpy(start.components.copy()).requires_grad_()
    adam = torch.optim.Adam([weights], lr=_RATE)
    falling = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / _STEPS)
    random, size = np.random.default_rng(0), min(_BATCH, len(vectors))
    with track("similarities", _STEPS, "steps") as advance, torch.enable_grad():
        for _ in range(_STEPS):
            rows = random.choice(len(vectors), size, replace=False)
            teacher = torch.from_numpy(vectors[rows])
            reduced = torch.from_numpy(vectors[rows] - start.mean) @ weights.T
            parts = [reduced, *(reduced[:, :dim] for dim in dims)]
            loss = torch.stack([pairwise(part, teacher, power) for part in parts]).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
            falling.step()
            advance(1)
    return Projection(weights.detach().numpy(), start.mean)
