"""Fit layers that normalize behind each residual, such as BERT's, by least squares on a sample."""

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear

from compressor.distil.student.fit.blocks import Fit, Seen
from compressor.distil.student.fit.low_rank import fewer_queries, fewer_values
from compressor.distil.student.fit.record import Call
from compressor.distil.student.importance import Importance, largest
from compressor.distil.student.parts import Block, Parts, watching
from compressor.distil.student.regression import (
    Regression,
    Rows,
    fit_normalization,
    map_of,
    put,
    refit,
    with_one,
)


class FitAfter(Fit):
    """An encoder of some width being fitted, with its states in a ``basis`` [width, hidden] of the teacher's."""

    def __init__(self, teacher: Parts, student: Parts, costs: Importance, real: list[Tensor], basis: Tensor) -> None:
        super().__init__(teacher, student, costs, real)
        self.basis = basis

    def project_embeddings(self) -> None:
        """Project the tables; what the gain of the teacher's LayerNorm does off the diagonal goes into them.

        Where a product widens what is summed (ELECTRA), it alone is projected, and nothing is lost.
        """
        for old, new in zip(self.teacher.biases, self.student.biases, strict=True):
            new.weight.copy_(old.weight)
        norm, own = self.teacher.norm, self.student.norm
        if norm is None or own is None:
            return
        map_: Tensor | None = None
        gain: Tensor = norm.weight
        bias: Tensor = norm.bias
        if self.teacher.widening is None or self.student.widening is None:
            stretched, gain = self._stretched(norm)
            map_, bias = (stretched / gain[:, None]).T, self.basis @ norm.bias
        else:
            self.student.widening.weight.copy_(self.basis @ self.teacher.widening.weight)
            self.student.widening.bias.copy_(self.basis @ self.teacher.widening.bias)
        for table, narrow in zip(self.teacher.tables, self.student.tables, strict=True):
            narrow.weight.copy_(table.weight if map_ is None else table.weight @ map_)
        own.weight.copy_(gain)
        own.bias.copy_(bias)

    def normalize(self, own: list[Call], wanted: list[Tensor]) -> None:
        """Fit the embeddings' LayerNorm, where it is what the layers read; ``wanted`` are the teacher's states."""
        if self.student.norm is not None and self.student.widening is None:
            outputs = [call.states[real] for call, real in zip(own, self.real, strict=True)]
            fit_normalization(self.student.norm, outputs, self._projected(wanted))

    def _look(self, wide: Block, call: Call, real: Tensor, feeds: list[Tensor]) -> Seen:
        with watching(wide.modules()) as seen:
            call.run(wide.layer)
        middle, end = wide.norms
        return {
            "reads": [seen[f"reads.{i}"][1][real] for i in range(len(wide.reads))],
            "middle_spread": [_spread(seen["norms.0"][0][real], middle)],
            "middle": [seen["norms.0"][1][real] @ self.basis.T],
            "feeds": [seen[f"feeds.{i}"][1][real][:, rows] for i, rows in enumerate(feeds)],
            "end_spread": [_spread(seen["norms.1"][0][real], end)],
        }

    def _fit_attention(self, index: int, narrow: Block, seen: list[Seen], own: list[Call]) -> None:
        wide = self.teacher.blocks[index]
        weight = self._attention(index, wide, narrow, seen, own)
        middles = [(computed["middle_spread"][0], computed["middle"][0]) for computed in seen]
        self._residual(wide.out, wide.norms[0], narrow, "out", weight, own, middles)

    def _fit_end(
        self, wide: Block, narrow: Block, neurons: Tensor, seen: list[Seen], own: list[Call], ends: list[Tensor]
    ) -> None:
        spreads = [computed["end_spread"][0] for computed in seen]
        targets = list(zip(spreads, self._projected(ends), strict=True))
        self._residual(wide.down, wide.norms[1], narrow, "down", wide.down.weight[:, neurons], own, targets)

    def _attention(self, index: int, wide: Block, narrow: Block, seen: list[Seen], own: list[Call]) -> Tensor:
        """Fit query, key and value; return the output's weight [hidden, heads' units] for what the heads then give."""
        count, size = narrow.out.in_features // self.student.head_size, self.teacher.head_size
        if count < self.teacher.heads(index) or self.student.head_size < size:
            return self._fewer(wide, narrow, largest(self.costs.heads[index], count), seen, own)
        # Positions read by the same queries and keys would turn with them.
        first = 2 if self.teacher.relative else 0
        rows = (
            Rows(call.states[real], computed["reads"][first:])
            for call, real, computed in zip(own, self.real, seen, strict=True)
        )
        refit(narrow.reads[first:], [self._prior(part) for part in wide.reads[first:]], rows)
        return wide.out.weight

    def _fewer(self, wide: Block, narrow: Block, heads: Tensor, seen: list[Seen], own: list[Call]) -> Tensor:
        """Fit query, key and value of the ``heads`` that are kept, or of smaller ones."""
        biased = wide.reads[0].bias is not None
        fit, made = Regression(), Regression()
        for call, real, computed in zip(own, self.real, seen, strict=True):
            projections = torch.cat(computed["reads"], 1)
            fit.add(with_one(call.states[real]) if biased else call.states[real], projections)
            made.add(with_one(projections), projections)
        maps = fit.solve(torch.cat([self._prior(part) for part in wide.reads]).T).T.chunk(3)
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
            for part, map_, whole in zip(narrow.reads, (scaled, key, value), maps, strict=True):
                put(part, map_ @ whole[q], at)
        rows = (heads[:, None] * size + torch.arange(size)).flatten()
        return wide.out.weight[:, rows] @ torch.block_diag(*lifts).float()

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
        part, number = getattr(narrow, name), {"out": 0, "down": 1}[name]
        after, norm = f"norms.{number}", narrow.norms[number]
        stretched, gain = self._stretched(wide_norm)
        biases = (
            [self.basis @ wide_norm.bias]
            if part.bias is None
            else [stretched @ linear.bias, self.basis @ wide_norm.bias]
        )
        fit = Regression()
        for student, (spread, target) in zip(self._student(narrow, own), targets, strict=True):
            inner, stream = student[name][0], student[after][0] - student[name][1]
            centred, ones = stream - stream.mean(1, keepdim=True), torch.ones_like(spread)
            constants = [ones] if part.bias is None else [1 / spread, ones]
            fit.add(torch.cat([inner / spread, *constants, centred / spread], 1), target)
        prior = torch.cat([stretched @ weight, torch.stack(biases, dim=1)], 1)
        map_, gains = fit.solve_residual(prior.T, gain)
        put(part, (map_[:-1] / gains).T)
        norm.weight.copy_(gains)
        norm.bias.copy_(map_[-1])
        outputs = [student[after][1] for student in self._student(narrow, own)]
        fit_normalization(norm, outputs, [target for _, target in targets])

    def _prior(self, part: Linear) -> Tensor:
        """Return it as a map [out, width + 1] of states in the basis; [out, width] without a bias."""
        map_ = map_of(part)
        return torch.cat([map_[:, : part.in_features] @ self.basis.T, map_[:, part.in_features :]], 1)

    def _stretched(self, norm: LayerNorm) -> tuple[Tensor, Tensor]:
        """Return the map [width, hidden] that takes the mean off, multiplies by the gain and projects; its diagonal."""
        stretched = self.basis * norm.weight
        return stretched - stretched.mean(1, keepdim=True), (stretched * self.basis).sum(1)

    def _projected(self, states: list[Tensor]) -> list[Tensor]:
        return [state[real] @ self.basis.T for state, real in zip(states, self.real, strict=True)]


def _spread(states: Tensor, norm: LayerNorm) -> Tensor:
    """Return the standard deviation that a LayerNorm divides by, [tokens, 1]."""
    return (states.var(1, unbiased=False, keepdim=True) + norm.eps).sqrt()
