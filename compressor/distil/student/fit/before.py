"""Fit layers that normalize what they read, such as ModernBERT's and T5's, by least squares on a sample."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import Linear

from compressor.distil.student.fit.blocks import Fit, Seen
from compressor.distil.student.fit.record import Call
from compressor.distil.student.parts import Block, watching
from compressor.distil.student.regression import Rows, map_of, refit


class FitBefore(Fit):
    """An encoder of its teacher's width being fitted.

    Nothing is normalized behind a residual, so what a product adds to it is fitted to what is still missing there. Of
    that, what reads it sees its direction alone: tokens count by the size of the teacher's state.
    """

    def _look(self, wide: Block, call: Call, real: Tensor, feeds: list[Tensor]) -> Seen:
        with watching(wide.modules()) as seen:
            call.run(wide.layer)
        return {
            "reads": [seen[f"reads.{i}"][1][real] for i in range(len(wide.reads))],
            "middle": [seen["norms.0"][0][real]],
            "feeds": [seen[f"feeds.{i}"][1][real][:, rows] for i, rows in enumerate(feeds)],
        }

    def _prior(self, part: Linear) -> Tensor:
        return map_of(part)

    def _fit_attention(self, index: int, narrow: Block, seen: list[Seen], own: list[Call]) -> None:
        wide = self.teacher.blocks[index]
        rows = (
            Rows(student["reads.0"][0], computed["reads"])
            for student, computed in zip(self._student(narrow, own), seen, strict=True)
        )
        refit(narrow.reads, [map_of(part) for part in wide.reads], rows)
        self._residual(narrow, "out", map_of(wide.out), own, [computed["middle"][0] for computed in seen])

    def _fit_end(
        self, wide: Block, narrow: Block, neurons: Tensor, seen: list[Seen], own: list[Call], ends: list[Tensor]
    ) -> None:
        weight = wide.down.weight[:, neurons]
        prior = weight if wide.down.bias is None else torch.cat([weight, wide.down.bias[:, None]], 1)
        self._residual(narrow, "down", prior, own, [end[real] for end, real in zip(ends, self.real, strict=True)])

    def _residual(self, narrow: Block, name: str, prior: Tensor, own: list[Call], targets: list[Tensor]) -> None:
        """Fit the linear layer ``name`` to what the residual stream lacks of ``targets`` without it."""

        def rows() -> Iterator[Rows]:
            for student, target in zip(self._student(narrow, own), targets, strict=True):
                inner, added = student[name]
                stream = (student["norms.0"][0] if name == "out" else student["layer"][1]) - added
                size = target.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
                yield Rows(inner, [target - stream], 1 / size)

        refit([getattr(narrow, name)], [prior], rows())
