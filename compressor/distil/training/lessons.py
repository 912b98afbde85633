"""The texts that a student learns from, and the teacher's vectors they are to have."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch.utils.data import Dataset

from compressor.core.errors import TextError
from compressor.distil.training.together import summed
from compressor.machine.processes import world
from compressor.models.sentence_model import default_prompt

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Texts whose teacher vectors are ``vectors[rows]``, or ``vectors`` in order, float [n, width]; drawn ``share``."""

    texts: Sequence[str]
    vectors: Any
    rows: Rows | None = None
    share: float | None = None

    def of(self, numbers: Rows) -> NDArray[np.float32]:
        """Return the teacher's vectors of the texts of these numbers, float32 [n, width]."""
        rows = numbers if self.rows is None else self.rows[numbers]
        return np.asarray(self.vectors[rows], np.float32)


class Lessons(Sequence[str]):
    """Several parts one after the other, a text's number its place among all; nothing is copied."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = [part for part in parts if len(part.texts)]
        if not self.parts:
            raise TextError("no texts to train on")
        self.starts = np.cumsum([0, *(len(part.texts) for part in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        part = int(np.searchsorted(self.starts, place, side="right")) - 1
        return self.parts[part].texts[place - int(self.starts[part])]

    def vectors(self, numbers: Rows) -> NDArray[np.float32]:
        """Return the teacher's vectors of the texts of these numbers, float32 [n, width]."""
        at = np.searchsorted(self.starts, numbers, side="right") - 1
        first = self.parts[0].of(numbers[:0])
        made = np.zeros((len(numbers), first.shape[1]), np.float32)
        for part in np.unique(at):
            made[at == part] = self.parts[part].of(numbers[at == part] - self.starts[part])
        return made

    @property
    def shape(self) -> tuple[int, int]:
        """Return how many vectors there are, and their length."""
        return len(self), self.parts[0].of(np.zeros(0, np.int64)).shape[1]

    def lengths(self, numbers: Rows) -> Rows:
        """Return the texts' lengths in bytes, int64 [n]: like ones cost alike, without tokenizing all of them."""
        return np.array([len(self[int(i)].encode()) for i in numbers], np.int64)

    def blocks(self, size: int, epoch: int, seed: int) -> Iterator[Rows]:
        """Yield the numbers of an epoch's texts in random order, ``size`` at a time, int64 [size].

        Short runs of neighbours are drawn rather than single texts, so that the memory needed hardly grows with
        the texts (the texts themselves lie in random order). With shares, each part fills its share of a block,
        and begins anew when it is used up.
        """
        random = np.random.default_rng((seed, epoch))
        drawn = [_Drawn(int(s), len(p.texts), random) for s, p in zip(self.starts, self.parts, strict=False)]
        stated = [part.share for part in self.parts]
        sizes = np.diff(self.starts)
        shares = np.array([n if s is None else s for s, n in zip(stated, sizes, strict=True)], float)
        shares /= shares.sum()
        left = len(self)
        while left:
            count = min(size, left)
            counts = np.diff(np.round(np.cumsum([0.0, *shares]) * count).astype(int))
            if all(share is None for share in stated):
                rows = np.concatenate([part.rest(n) for part, n in zip(drawn, _fair(counts, drawn), strict=True)])
            else:
                rows = np.concatenate([part.take(n) for part, n in zip(drawn, counts, strict=True)])
            left -= len(rows)
            yield rows


def _fair(counts: NDArray[Any], drawn: Sequence["_Drawn"]) -> list[int]:
    """Return what to take of each part so that all end together: what another part lacks is taken of the next."""
    wanted, taken = int(counts.sum()), []
    for count, part in zip(counts, drawn, strict=True):
        taken.append(min(int(count), part.left))
    for i, part in enumerate(drawn):
        more = min(wanted - sum(taken), part.left - taken[i])
        taken[i] += max(more, 0)
    return taken


class _Drawn:
    """The texts of a part in random runs of neighbours, each once before any comes again."""

    _RUN = 64

    def __init__(self, start: int, count: int, random: np.random.Generator) -> None:
        self.start, self.count, self.random = start, count, random
        self._begin()

    def _begin(self) -> None:
        self.runs = self.random.permutation(-(-self.count // self._RUN))
        self.next, self.kept, self.left = 0, np.zeros(0, np.int64), self.count

    def rest(self, count: int) -> Rows:
        """Return ``count`` more, at most what is left."""
        while len(self.kept) < count and self.next < len(self.runs):
            first = int(self.runs[self.next]) * self._RUN
            run = np.arange(first, min(first + self._RUN, self.count), dtype=np.int64)
            self.kept, self.next = np.concatenate([self.kept, self.start + run]), self.next + 1
        given, self.kept = self.kept[:count], self.kept[count:]
        self.left -= len(given)
        return given

    def take(self, count: int) -> Rows:
        """Return ``count`` more, from the beginning again where they end."""
        given = [self.rest(count)]
        while sum(map(len, given)) < count:
            self._begin()
            given.append(self.rest(count - sum(map(len, given))))
        return np.concatenate(given)


class Numbers(Dataset[int]):
    """The numbers of the texts: what a batch needs of them is looked up when it is made."""

    column_names = ("sentence", "label")

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


class Collate:
    """Tokenize the texts of a batch as ``encode`` does, default prompt included; a text's label is its number.

    Counts those that were cut, and how many had how many tokens.
    """

    def __init__(self, model: SentenceTransformer, lessons: Lessons, limit: int | None) -> None:
        self.model, self.lessons, self.limit, self.prompt = model, lessons, limit, default_prompt(model)
        self.seen = self.cut = 0
        self.tokens = Counter[int]()
        self.valid_label_columns = ["label"]

    def __call__(self, numbers: list[int]) -> dict[str, torch.Tensor]:
        features = self.model.preprocess([self.lessons[i] for i in numbers], prompt=self.prompt)
        if self.limit and "attention_mask" in features:
            # One that just fits is counted too; texts of exactly the limit are rare.
            tokens = features["attention_mask"].sum(1)
            self.cut += int((tokens >= self.limit).sum())
            self.tokens.update(tokens.tolist())
        self.seen += len(numbers)
        if "prompt_length" in features:  # for a pooling that leaves the prompt out
            features["prompt_length"] = torch.full((len(numbers),), int(features["prompt_length"]))
        tensors = {f"sentence_{name}": value for name, value in features.items() if isinstance(value, torch.Tensor)}
        return tensors | {"label": torch.tensor(numbers)}

    def sum(self) -> None:
        """Count what all processes of the training have seen, each of which has its own part of a step's texts."""
        if world() == 1:
            return
        counts = np.zeros((self.limit or 0) + 3, np.int64)
        counts[:2] = self.seen, self.cut
        for tokens, count in self.tokens.items():
            counts[2 + tokens] = count
        self.seen, self.cut, *by_tokens = summed(counts).tolist()
        self.tokens = Counter({tokens: count for tokens, count in enumerate(by_tokens) if count})
