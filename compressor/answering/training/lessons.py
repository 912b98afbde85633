"""The windows that a reader learns from: their labels, and the teacher's logits where it has a teacher."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.answering.questions.spans import Logits
from compressor.answering.questions.windows import Ids, Window, padded
from compressor.core.errors import TextError


@dataclass(frozen=True)
class WindowLessons:
    """Windows, where their answers stand as ``labels`` has it, and maybe a teacher's start and end logits."""

    windows: Sequence[Window]
    labels: Ids
    teacher: tuple[Sequence[Logits], Sequence[Logits]] | None = None

    def __post_init__(self) -> None:
        if not len(self.windows):
            raise TextError("no questions to train on")

    def __len__(self) -> int:
        return len(self.windows)

    def blocks(self, size: int, epoch: int, seed: int) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of an epoch's windows in random order, ``size`` at a time."""
        order = np.random.default_rng((seed, epoch)).permutation(len(self))
        for start in range(0, len(order), size):
            yield order[start : start + size]

    def lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the windows' lengths in tokens."""
        return np.array([len(self.windows[int(i)].ids) for i in numbers], np.int64)


class CollateWindows:
    """Pad the windows of a batch and put labels, valid tokens and the teacher's logits beside them."""

    def __init__(self, lessons: WindowLessons, pad: int, reads: set[str]) -> None:
        self.lessons, self.pad, self.reads = lessons, pad, reads

    def __call__(self, numbers: Sequence[int]) -> dict[str, Any]:
        windows = [self.lessons.windows[i] for i in numbers]
        features = {n: torch.from_numpy(v) for n, v in padded(windows, self.pad).items() if n in self.reads}
        width = features["input_ids"].shape[1]
        valid = _stacked([window.valid for window in windows], width).bool()
        batch = {"features": features, "valid": valid, "labels": torch.from_numpy(self.lessons.labels[list(numbers)])}
        if self.lessons.teacher is not None:
            batch["teacher"] = [_stacked([side[i] for i in numbers], width) for side in self.lessons.teacher]
        return batch


def _stacked(rows: Sequence[NDArray[Any]], width: int) -> torch.Tensor:
    made = np.zeros((len(rows), width), np.float32)
    for row, values in zip(made, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(made)
