"""Fit a narrow encoder to a wide one, layer by layer, by least squares on a sample."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear

from compressor.distil.student.importance import Importance
from compressor.distil.student.low_rank import fewer_queries, fewer_values
from compressor.distil.student.record import Call, record
from compressor.distil.student.regression import Regression, fit_normalization, with_one
from compressor.distil.student.sample import Batch
from compressor.distil.student.structure import Block, Parts, find_parts, watching


@torch.no_grad()
def fit_encoder(wide: Any, narrow: Any, layers: tuple[int, ...], costs: Importance, batches: list[Batch]) -> Tensor:
    """Fit ``narrow`` in place to the given ``layers`` of ``wide``; return the basis [width, hidden] of its states.

    The residual stream binds all layers to one basis, the principal directions of the teacher's states (SliceGPT,
    Ashkboos et al. 2024, arXiv:2401.15024). LayerNorm behind each residual keeps that from being exact, so each
    linear layer is refitted: the least-squares map from what the *student* computes so far to what the teacher
    computes there (He et al. 2017, arXiv:1707.06168). A layer so makes up for those before it, and for those of
    the teacher that were left out behind it. ``layers`` ascend.
    """
    teacher, student = find_parts(wide), find_parts(narrow)
    calls = record(wide, [teacher.blocks[index].layer for index in layers], batches)
    states = [[call[site].states for call in calls] for site in range(len(layers) + 1)]
    real = [batch.real for batch in batches]
    basis = principal_directions(
        [[state[mask] for state, mask in zip(site, real, strict=True)] for site in states],
        len(student.norm.weight),
    )
    fit = _Fit(teacher, student, basis, costs, real)
    fit.project_embeddings()
    fit.normalize(student.norm, _inputs(narrow, student, batches), states[0])
    own = _inputs(narrow, student, batches)
    for new, old in enumerate(layers):
        fit.fit_block(old, student.blocks[new], [call[new] for call in calls], own, states[new + 1])
        own = [call.through(student.blocks[new].layer) for call in own]
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


class _Fit:
    """A narrow encoder being fitted; ``real`` says which tokens of each batch are no padding."""

    def __init__(self, teacher: Parts, student: Parts, basis: Tensor, costs: Importance, real: list[Tensor]) -> None:
        self.teacher, self.student, self.basis, self.costs, self.real = teacher, student, basis, costs, real

    def project_embeddings(self) -> None:
        """Project the tables; what the gain of the teacher's LayerNorm does off the diagonal goes into them."""
        stretched, gain = self._stretched(self.teacher.norm)
        for table, narrow in zip(self.teacher.tables, self.student.tables, strict=True):
            narrow.weight.copy_(table.weight @ (stretched / gain[:, None]).T)
        for bias, own in zip(self.teacher.biases, self.student.biases, strict=True):
            own.weight.copy_(bias.weight)
        self.student.norm.weight.copy_(gain)
        self.student.norm.bias.copy_(self.basis @ self.teacher.norm.bias)

    def normalize(self, norm: LayerNorm, own: list[Call], wanted: list[Tensor]) -> None:
        """Fit the gain and bias of the embeddings' LayerNorm; ``wanted`` are the teacher's states."""
        outputs = [call.states[real] for call, real in zip(own, self.real, strict=True)]
        fit_normalization(norm, outputs, self._projected(wanted))

    def fit_block(self, index: int, narrow: Block, calls: list[Call], own: list[Call], ends: list[Tensor]) -> None:
        """Fit one layer to the teacher's layer ``index``.

        ``calls`` are the teacher's calls of it, ``own`` the student's; ``ends`` the states to end with.
        """
        wide, size = self.teacher.blocks[index], self.teacher.head_size
        heads = _largest(self.costs.heads[index], narrow.query.out_features // self.student.head_size)
        neurons = _largest(self.costs.neurons[index], narrow.up.out_features)
        seen = [self._look(wide, call, real, neurons) for call, real in zip(calls, self.real, strict=True)]
        values = self._attention(wide, narrow, heads, seen, own)
        rows = (heads[:, None] * size + torch.arange(size)).flatten()
        mids = [(computed["mid_spread"], computed["mid"]) for computed in seen]
        self._residual(wide.out, wide.norm, narrow, "out", wide.out.weight[:, rows] @ values, own, mids)
        self._up(wide, narrow, neurons, seen, own)
        targets = list(zip([computed["end_spread"] for computed in seen], self._projected(ends), strict=True))
        self._residual(wide.down, wide.last_norm, narrow, "down", wide.down.weight[:, neurons], own, targets)

    def _look(self, wide: Block, call: Call, real: Tensor, neurons: Tensor) -> dict[str, Tensor]:
        """Return what the teacher's layer computes for the real tokens, [tokens, ...] each."""
        with watching(wide.modules()) as seen:
            call.run(wide.layer)
        return {
            "projections": torch.cat([seen[name][1][real] for name in ("query", "key", "value")], dim=1),
            "mid_spread": _spread(seen["norm"][0][real], wide.norm),
            "mid": seen["norm"][1][real] @ self.basis.T,
            "up": seen["up"][1][real][:, neurons],
            "end_spread": _spread(seen["last_norm"][0][real], wide.last_norm),
        }

    def _student(self, narrow: Block, own: list[Call]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
        """Run the student's layer; yield for each batch the input and output of each of its modules."""
        for call, real in zip(own, self.real, strict=True):
            with watching(narrow.modules()) as seen:
                call.run(narrow.layer)
            yield {name: (inputs[real], output[real]) for name, (inputs, output) in seen.items()}

    def _attention(
        self, wide: Block, narrow: Block, heads: Tensor, seen: list[dict[str, Tensor]], own: list[Call]
    ) -> Tensor:
        """Fit query, key and value; return the map [wide, narrow] from the student's values to the heads' own."""
        fit, made = Regression(), Regression()
        for call, real, computed in zip(own, self.real, seen, strict=True):
            fit.add(with_one(call.states[real]), computed["projections"])
            made.add(with_one(computed["projections"]), computed["projections"])
        prior = torch.cat([self._prior(part) for part in (wide.query, wide.key, wide.value)])
        maps = fit.solve(prior.T).T.chunk(3)
        moments = made.inputs[:-1, :-1] / made.inputs[-1, -1]
        means = made.inputs[-1, :-1] / made.inputs[-1, -1]
        covariance = moments - torch.outer(means, means)
        lifts, size, smaller = [], self.teacher.head_size, self.student.head_size
        for new, head in enumerate(heads.tolist()):
            q, k, v = (slice(i * len(maps[0]) + head * size, i * len(maps[0]) + (head + 1) * size) for i in range(3))
            # What a query adds to all keys alike falls out of the softmax: keys count about their mean.
            query, key = fewer_queries(moments[q, q], covariance[k, k], smaller)
            value, lift = fewer_values(wide.out.weight[:, q].double(), covariance[v, v], smaller)
            lifts.append(lift)
            at = slice(new * smaller, (new + 1) * smaller)
            scaled = query * (smaller / size) ** 0.5  # each model divides by the root of its own heads' size
            for part, map_, whole in zip(
                (narrow.query, narrow.key, narrow.value), (scaled, key, value), maps, strict=True
            ):
                _put(part, map_ @ whole[q], at)
        return torch.block_diag(*lifts).float()

    def _up(self, wide: Block, narrow: Block, neurons: Tensor, seen: list[dict[str, Tensor]], own: list[Call]) -> None:
        fit = Regression()
        for student, computed in zip(self._student(narrow, own), seen, strict=True):
            fit.add(with_one(student["up"][0]), computed["up"])
        _put(narrow.up, fit.solve(self._prior(wide.up)[neurons].T).T)

    def _residual(
        self,
        linear: Linear,
        wide_norm: LayerNorm,
        narrow: Block,
        name: str,
        weight: Tensor,
        own: list[Call],
        targets: list[tuple[Tensor, Tensor]],
    ) -> None:
        """Fit the linear layer ``name``, which adds to the residual stream, and the LayerNorm behind it.

        ``weight`` is the teacher's for what the student still computes; ``targets`` are for each batch the spread
        [tokens, 1] that the teacher's LayerNorm divides by, and the states [tokens, width] behind it.
        """
        after = {"out": "norm", "down": "last_norm"}[name]
        stretched, gain = self._stretched(wide_norm)
        bias = torch.stack([stretched @ linear.bias, self.basis @ wide_norm.bias], dim=1)
        fit, norm = Regression(), getattr(narrow, after)
        for student, (spread, target) in zip(self._student(narrow, own), targets, strict=True):
            inner, stream = student[name][0], student[after][0] - student[name][1]
            centred = stream - stream.mean(1, keepdim=True)
            fit.add(torch.cat([inner / spread, 1 / spread, torch.ones_like(spread), centred / spread], 1), target)
        map_, gains = fit.solve_residual(torch.cat([stretched @ weight, bias], 1).T, gain)
        _put(getattr(narrow, name), (map_[:-1] / gains).T)
        norm.weight.copy_(gains)
        norm.bias.copy_(map_[-1])
        outputs = [student[after][1] for student in self._student(narrow, own)]
        fit_normalization(norm, outputs, [target for _, target in targets])

    def _prior(self, part: Linear) -> Tensor:
        """Return the teacher's weight and bias [out, width + 1] for states in the basis."""
        return torch.cat([part.weight @ self.basis.T, part.bias[:, None]], 1)

    def _stretched(self, norm: LayerNorm) -> tuple[Tensor, Tensor]:
        """Return the map [width, hidden] that takes the mean off, multiplies by the gain and projects; its diagonal."""
        stretched = self.basis * norm.weight
        return stretched - stretched.mean(1, keepdim=True), (stretched * self.basis).sum(1)

    def _projected(self, states: list[Tensor]) -> list[Tensor]:
        return [state[real] @ self.basis.T for state, real in zip(states, self.real, strict=True)]


def _largest(costs: Tensor, count: int) -> Tensor:
    return costs.argsort(descending=True, stable=True)[:count].sort().values


def _spread(states: Tensor, norm: LayerNorm) -> Tensor:
    """Return the standard deviation that a LayerNorm divides by, [tokens, 1]."""
    return (states.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()


def _put(part: Linear, map_: Tensor, rows: slice = slice(None)) -> None:
    """Write a map [rows, in + 1], the bias last, into some rows of a linear layer."""
    part.weight[rows] = map_[:, :-1].to(part.weight.dtype)
    part.bias[rows] = map_[:, -1].to(part.bias.dtype)
