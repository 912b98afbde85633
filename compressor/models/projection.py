"""A linear projection of vectors, kept beside the model that has it folded in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from compressor.core.encoder import Vectors
from compressor.core.errors import ModelError, unreadable

PROJECTION = "projection.safetensors"
_LEAST_SCALE = 0.01


@dataclass(frozen=True)
class Projection:
    """Principal components: ``components`` float32 [dim, width], ``mean`` float32 [width].

    The rows are orthonormal, but for a factor each where whitened, and may be turned among themselves; those that
    were trained to keep similarities are any. ``mean`` is zero where it is not taken off.
    """

    components: Vectors
    mean: Vectors

    @property
    def width(self) -> int:
        """Length of the vectors that it takes."""
        return int(self.components.shape[1])

    def apply(self, vectors: Vectors) -> Vectors:
        """Return the vectors' coordinates on the components, float32 [n, dim]."""
        return np.asarray((vectors - self.mean) @ self.components.T, np.float32)

    def after(self, first: "Projection") -> "Projection | None":
        """Return the one map that gives the directions of ``first``, made unit length, and then this one.

        None where this one takes a mean off: what is taken off a unit vector is no linear map of what it was made of.
        """
        if self.mean.any():
            return None
        return Projection(self.components @ first.components, first.mean)

    def lift(self, reduced: Vectors) -> Vectors:
        """Return reduced vectors in the space they came from (its origin at ``mean``), float32 [n, width].

        The pseudo-inverse takes a whitened component's factor off again; of orthonormal rows it is the transpose.
        Lifting what was projected gives the nearest vector in the span of the components, whatever they are.
        """
        inverse = np.linalg.pinv(self.components.astype(np.float64)).T
        return reduced @ inverse.astype(np.float32)

    @property
    def can_be_lifted(self) -> bool:
        """Tell whether ``lift`` is steady: directions that are nearly left out would come back as noise."""
        scales = np.linalg.svd(self.components.astype(np.float64), compute_uv=False)
        return bool(scales[-1] > _LEAST_SCALE * scales[0])

    def save(self, folder: Path) -> None:
        """Keep the projection beside the model, for measuring: the model itself has it in its Dense layer."""
        arrays = {"components": self.components, "mean": self.mean}
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / PROJECTION)

    @classmethod
    def load(cls, folder: Path) -> "Projection | None":
        """Return the projection kept in ``folder``, if there is one; ModelError where it cannot be read."""
        path = folder / PROJECTION
        if not path.is_file():
            return None
        try:
            arrays = load(path.read_bytes())
            return cls(arrays["components"], arrays["mean"])
        except OSError as error:
            raise ModelError(unreadable(path, error)) from error
        except (SafetensorError, KeyError) as error:
            raise ModelError(f"{path}: not readable as safetensors with tensors components and mean") from error
