"""What fitting a layer has in common, wherever its norms stand."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from torch import Tensor
from torch.nn import Linear

from compressor.distil.student.fit.record import Call
from compressor.distil.student.importance import Importance, largest
from compressor.distil.student.parts import Block, Parts, watching
from compressor.distil.student.regression import Rows, refit

Seen = Mapping[str, list[Tensor]]
"""What the teacher's layer computes for a batch's real tokens, [tokens, ...] each, by name."""


class Fit(ABC):
    """An encoder being fitted to its teacher; ``real`` says which tokens of each batch are no padding."""

    def __init__(self, teacher: Parts, student: Parts, costs: Importance, real: list[Tensor]) -> None:
        self.teacher, self.student, self.costs, self.real = teacher, student, costs, real

    def fit_block(self, index: int, narrow: Block, calls: list[Call], own: list[Call], ends: list[Tensor]) -> None:
        """Fit one layer to the teacher's layer ``index``: attention, what the feed-forward reads by, what it adds.

        ``calls`` are the teacher's calls of it, ``own`` the student's; ``ends`` the states to end with.
        """
        wide = self.teacher.blocks[index]
        neurons = largest(self.costs.neurons[index], narrow.neurons)
        feeds = [wide.feed_rows(feed, neurons) for feed in wide.feeds]
        seen = [self._look(wide, call, real, feeds) for call, real in zip(calls, self.real, strict=True)]
        self._fit_attention(index, narrow, seen, own)
        rows = (
            Rows(student["feeds.0"][0], computed["feeds"])
            for student, computed in zip(self._student(narrow, own), seen, strict=True)
        )
        refit(narrow.feeds, [self._prior(part)[kept] for part, kept in zip(wide.feeds, feeds, strict=True)], rows)
        self._fit_end(wide, narrow, neurons, seen, own, ends)

    @abstractmethod
    def _look(self, wide: Block, call: Call, real: Tensor, feeds: list[Tensor]) -> Seen:
        """Run the teacher's layer; return what the student's is fitted to, ``feeds`` (its rows) among it."""

    @abstractmethod
    def _prior(self, part: Linear) -> Tensor:
        """Return the teacher's linear layer as the map that a fit stays near to, where the sample says nothing."""

    @abstractmethod
    def _fit_attention(self, index: int, narrow: Block, seen: list[Seen], own: list[Call]) -> None:
        """Fit query, key and value, and what attention adds to the states."""

    @abstractmethod
    def _fit_end(
        self, wide: Block, narrow: Block, neurons: Tensor, seen: list[Seen], own: list[Call], ends: list[Tensor]
    ) -> None:
        """Fit what the kept ``neurons``, int64, add to the states, to the states to end with."""

    def _student(self, narrow: Block, own: list[Call]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
        """Run the student's layer; yield for each batch what each of its modules reads and gives, and the layer."""
        for call, real in zip(own, self.real, strict=True):
            with watching(narrow.modules()) as seen:
                made = call.run(narrow.layer)
            yield {name: (inputs[real], output[real]) for name, (inputs, output) in seen.items()} | {
                "layer": (call.states[real], made[real])
            }
