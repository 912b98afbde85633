"""Fit layers that normalize what they read, such as ModernBERT's and T5's, by least squares on a sample."""

from collections.abc import Iterator

import torch
from torch import Tensor

from compressor.distil.student.fit.record import Call
from compressor.distil.student.importance import Importance, largest
from compressor.distil.student.parts import Block, Parts, watching
from compressor.distil.student.regression import Rows, map_of, refit


class FitBefore:
    """An encoder of its teacher's width being fitted; ``real`` says which tokens of each batch are no padding.

    Nothing is normalized behind a residual, so what a product adds to it is fitted to what is still missing there. Of
    that, what reads it sees its direction alone: tokens count by the size of the teacher's state.
    """

    def __init__(self, teacher: Parts, student: Parts, costs: Importance, real: list[Tensor]) -> None:
        self.teacher, self.student, self.costs, self.real = teacher, student, costs, real

    def fit_block(self, index: int, narrow: Block, calls: list[Call], own: list[Call], ends: list[Tensor]) -> None:
        """Fit one layer to the teacher's layer ``index``.

        ``calls`` are the teacher's calls of it, ``own`` the student's; ``ends`` the states to end with.
        """
        wide = self.teacher.blocks[index]
        neurons = largest(self.costs.neurons[index], narrow.neurons)
        feeds = [wide.feed_rows(feed, neurons) for feed in wide.feeds]
        seen = [self._look(wide, call, real, feeds) for call, real in zip(calls, self.real, strict=True)]
        rows = (
            Rows(student["reads.0"][0], computed["reads"])
            for student, computed in zip(self._student(narrow, own), seen, strict=True)
        )
        refit(narrow.reads, [map_of(part) for part in wide.reads], rows)
        self._residual(narrow, "out", map_of(wide.out), own, [computed["middle"][0] for computed in seen])
        rows = (
            Rows(student["feeds.0"][0], computed["feeds"])
            for student, computed in zip(self._student(narrow, own), seen, strict=True)
        )
        refit(narrow.feeds, [map_of(part)[kept] for part, kept in zip(wide.feeds, feeds, strict=True)], rows)
        weight = wide.down.weight[:, neurons]
        prior = weight if wide.down.bias is None else torch.cat([weight, wide.down.bias[:, None]], 1)
        self._residual(narrow, "down", prior, own, [end[real] for end, real in zip(ends, self.real, strict=True)])

    def _look(self, wide: Block, call: Call, real: Tensor, feeds: list[Tensor]) -> dict[str, list[Tensor]]:
        """Return what the teacher's layer computes for the real tokens, [tokens, ...] each."""
        with watching(wide.modules()) as seen:
            call.run(wide.layer)
        return {
            "reads": [seen[f"reads.{i}"][1][real] for i in range(len(wide.reads))],
            "middle": [seen["norms.0"][0][real]],
            "feeds": [seen[f"feeds.{i}"][1][real][:, rows] for i, rows in enumerate(feeds)],
        }

    def _student(self, narrow: Block, own: list[Call]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
        """Run the student's layer; yield for each batch what each of its modules reads and gives, and the layer."""
        for call, real in zip(own, self.real, strict=True):
            with watching(narrow.modules()) as seen:
                made = call.run(narrow.layer)
            yield {name: (inputs[real], output[real]) for name, (inputs, output) in seen.items()} | {
                "layer": (call.states[real], made[real])
            }

    def _residual(self, narrow: Block, name: str, prior: Tensor, own: list[Call], targets: list[Tensor]) -> None:
        """Fit the linear layer ``name`` to what the residual stream lacks of ``targets`` without it."""

        def rows() -> Iterator[Rows]:
            for student, target in zip(self._student(narrow, own), targets, strict=True):
                inner, added = student[name]
                stream = (student["norms.0"][0] if name == "out" else student["layer"][1]) - added
                size = target.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
                yield Rows(inner, [target - stream], 1 / size)

        refit([getattr(narrow, name)], [prior], rows())
