"""Fit an encoder of fewer layers, or of narrower ones, to its teacher, layer by layer, by least squares on a sample."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from compressor.distil.student.fit.after import FitAfter
from compressor.distil.student.fit.before import FitBefore
from compressor.distil.student.fit.blocks import Fit
from compressor.distil.student.fit.record import Call, record
from compressor.distil.student.importance import Importance
from compressor.distil.student.parts import Parts
from compressor.distil.student.sample import Batch
from compressor.distil.student.structure import find_parts


@torch.no_grad()
def fit_encoder(wide: Any, narrow: Any, layers: tuple[int, ...], costs: Importance, batches: list[Batch]) -> Tensor:
    """Fit ``narrow`` in place to the given ``layers`` of ``wide``; return the basis [width, hidden] of its states.

    The residual stream binds all layers to one basis, the principal directions of the teacher's states (SliceGPT,
    Ashkboos et al. 2024, arXiv:2401.15024). LayerNorm behind each residual keeps that from being exact, so each
    linear layer is refitted: the least-squares map from what the *student* computes so far to what the teacher
    computes there (He et al. 2017, arXiv:1707.06168). A layer so makes up for those before it, and for those of
    the teacher that were left out behind it. ``layers`` ascend. A student as wide as its teacher has its embeddings.
    """
    teacher, student = find_parts(wide), find_parts(narrow)
    calls = record(wide, [teacher.blocks[index].layer for index in layers], batches, teacher.ending)
    states = [[call[site].states for call in calls] for site in range(len(layers) + 1)]
    real = [batch.real for batch in batches]
    sites = [[state[mask] for state, mask in zip(site, real, strict=True)] for site in states]
    basis = principal_directions(sites, student.width)
    fit: Fit = FitBefore(teacher, student, costs, real)
    if teacher.ending is None:
        fit = after = FitAfter(teacher, student, costs, real, basis)
        if student.width < teacher.width:
            after.project_embeddings()
            after.normalize(_inputs(narrow, student, batches), states[0])
    own = _inputs(narrow, student, batches)
    for new, old in enumerate(layers):
        fit.fit_block(old, student.blocks[new], [call[new] for call in calls], own, states[new + 1])
        made = [call.run(student.blocks[new].layer) for call in own]
        own = [replace(call[new + 1], states=states_) for call, states_ in zip(calls, made, strict=True)]
    return basis


def principal_directions(sites: list[list[Tensor]], width: int) -> Tensor:
    """Return an orthonormal basis [width, hidden] of the largest variance at all sites, each weighing alike.

    ``sites`` hold states [tokens, hidden]. Within its span the basis is turned at random: LayerNorm takes the mean
    over the units off and divides by their spread, which few large axes among many small ones would feel more.
    """
    total = torch.zeros((), dtype=torch.float64)
    for states in sites:
        sums = torch.stack([part.double().sum(0) for part in states]).sum(0)
        moments = torch.stack([(part.T @ part).double() for part in states]).sum(0)
        count = sum(len(part) for part in states)
        centred = moments - torch.outer(sums, sums) / count
        total = total + centred / centred.trace()
    if len(total) == width:
        return torch.eye(width)
    directions = torch.linalg.eigh(total)[1].flip(1)[:, :width]
    turn = torch.randn(width, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (torch.linalg.qr(turn)[0] @ directions.T).float()


def _inputs(transformer: Any, parts: Parts, batches: list[Batch]) -> list[Call]:
    return [calls[0] for calls in record(transformer, [parts.blocks[0].layer], batches)]
