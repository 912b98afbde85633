"""Fewer units a head, by singular values of what the head computes."""

import torch
from torch import Tensor

from compressor.distil.student.regression import ridged


def fewer_queries(queries: Tensor, keys: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return maps [count, size] of a head's queries and keys whose products are nearest to the head's own.

    ``queries`` and ``keys`` are second moments, float64 [size, size]. The products are cut to rank ``count`` by
    singular values under these moments (Eckart and Young 1936).
    """
    if count == len(queries):
        return _whole(count), _whole(count)
    (query, query_inverse), (key, key_inverse) = _root(queries), _root(keys)
    left, strength, right = torch.linalg.svd(query @ key)
    root = strength[:count].sqrt()[:, None]
    return root * left[:, :count].T @ query_inverse, root * right[:count] @ key_inverse


def fewer_values(writes: Tensor, values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return a map [count, size] of a head's values that keeps most of what it writes, and the way back.

    ``writes`` [hidden, size] is the head's part of the output's weight, ``values`` [size, size] the covariance.
    """
    if count == len(values):
        return _whole(count), _whole(count)
    root, inverse = _root(values)
    right = torch.linalg.svd(writes @ root, full_matrices=False)[2][:count]
    return right @ inverse, root @ right.T


def _whole(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


def _root(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return the symmetric root of ``moments`` and its inverse."""
    values, directions = torch.linalg.eigh(ridged(moments))
    root = values.clamp(min=1e-12).sqrt()
    return directions * root @ directions.T, directions / root @ directions.T
