"""sentence-transformers' trainer, fed from lessons: its batches, its optimizer, its learning rate."""

from collections.abc import Iterator
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformerTrainer
from torch.utils.data import BatchSampler, DataLoader

from compressor.distil.training.clock import Clock
from compressor.distil.training.lessons import Collate, Lessons, Numbers
from compressor.distil.training.neighbours import grouped
from compressor.machine.processes import world
from compressor.models.sentence_model import is_static, transformer_of

_POOL = 50  # batches within which texts are sorted by length
_COMPARED = 1024  # texts among which similar ones are looked for


class Drawn(Protocol):
    """What batches are cut from: texts or windows, by their numbers."""

    def __len__(self) -> int: ...

    def blocks(self, size: int, epoch: int, seed: int) -> Iterator[NDArray[np.int64]]:
        """Yield the numbers of an epoch in random order, ``size`` at a time."""
        ...

    def lengths(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return lengths: like ones cost alike."""
        ...


class LengthGroupedBatches(BatchSampler):
    """Batches of texts of like length, in random order: no step computes on padding.

    Each epoch is shuffled anew by seed and epoch, cut into pools of 50 batches, and sorted within a pool. With
    ``parts``, a batch is given in so many parts one after the other, as processes and parts of a step take them,
    so that a step's texts are the same however it is computed. With ``similar`` above 1, so many texts are drawn
    together (see ``grouped``), chosen among about a thousand of like length.
    """

    def __init__(self, lessons: Drawn, batch_size: int, seed: int, parts: int = 1, similar: int = 1) -> None:
        self.lessons, self.seed, self.epoch, self.drop_last, self.similar = lessons, seed, 0, False, similar
        self.whole, self.parts = batch_size, parts
        self.batch_size: Any = None  # to accelerate: a last batch's parts are smaller
        self.sampler: Any = self  # where accelerate looks for set_epoch once it has shared the batches out

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is iterated next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch, 1))
        for rows in self.lessons.blocks(_POOL * self.whole, self.epoch, self.seed):
            rows = random.permutation(rows)
            rows = rows[np.argsort(self.lessons.lengths(rows), kind="stable")]
            if self.similar > 1:
                rows = self._beside(rows, random)
            batches = [rows[i : i + self.whole] for i in range(0, len(rows), self.whole)]
            for index in random.permutation(len(batches)):
                batch = batches[index]
                if len(batch) < self.parts:  # no part may be empty: all processes must take the step
                    batch = np.resize(batch, self.parts)
                yield from (part.tolist() for part in np.array_split(batch, self.parts))

    def _beside(self, rows: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """Put similar texts side by side, a few batches' worth at a time."""
        lessons = cast(Lessons, self.lessons)
        count = max(1, _COMPARED // self.whole) * self.whole
        blocks = [rows[i : i + count] for i in range(0, len(rows), count)]
        return np.concatenate([part[grouped(lessons.vectors(part), self.similar, random)] for part in blocks])

    def __len__(self) -> int:
        return -(-len(self.lessons) // self.whole) * self.parts


class ImitationTrainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer, fed from lessons, its learning rate led by the clock."""

    def __init__(
        self,
        lessons: Lessons,
        collate: Collate,
        clock: Clock,
        embedding_learning_rate: float | None = None,
        similar: int = 1,
        **options: Any,
    ) -> None:
        self.lessons, self.collate, self.clock, self.similar = lessons, collate, clock, similar
        self.embedding_learning_rate = embedding_learning_rate
        super().__init__(train_dataset=Numbers(len(lessons)), **options)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Leave out the library's own model card, which runs examples; ours is made from measured figures."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write a checkpoint's model without that card, which takes longer than the weights of a small student."""
        folder = output_dir or self.args.output_dir
        cast(Any, self.model).save_pretrained(folder, create_model_card=False)

    def validate_column_names(self, *_: Any, **__: Any) -> None:
        """There are no columns: batches are made by ``Collate``."""

    def preprocess_dataset(self, dataset: Any = None, *_: Any, **__: Any) -> Any:
        """Return the numbers as they are."""
        return dataset

    def get_train_dataloader(self) -> Any:
        """Return the batches of an epoch, shared among the processes."""
        parts = world() * self.args.gradient_accumulation_steps
        whole = self.args.per_device_train_batch_size * parts
        batches = LengthGroupedBatches(self.lessons, whole, self.args.seed, parts, self.similar)
        loader = DataLoader(Numbers(len(self.lessons)), batch_sampler=batches, collate_fn=self.collate)
        self.accelerator.even_batches = False
        return self.accelerator.prepare(loader)

    def create_optimizer(self, *_: Any) -> Any:
        """Make AdamW with the embeddings' own learning rate."""
        if self.optimizer is None:
            table, modules = (
                vocabulary_of(self.model),
                (cast(torch.nn.Module, self.model), cast(torch.nn.Module, self.loss)),
            )
            trained = {id(p): p for module in modules for p in module.parameters() if p.requires_grad}
            rest = [parameter for parameter in trained.values() if parameter is not table]
            groups: list[dict[str, Any]] = [{"params": rest}] if rest else []
            if table is not None and table.requires_grad:
                groups.append({"params": [table], "lr": self.embedding_learning_rate or self.args.learning_rate})
            self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate, weight_decay=0.0, fused=True)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Let the learning rate rise over the warm-up and fall in a straight line to the end, in steps or in time."""
        if self.lr_scheduler is None:
            warmup = min(int(self.args.warmup_steps), num_training_steps // 2)

            def factor(step: int) -> float:
                rising = (step + 1) / warmup if warmup else 1.0
                falling = (num_training_steps - step) / max(num_training_steps - warmup, 1)
                return max(0.0, min(1.0, rising, falling, 1 - self.clock.share()))

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or cast(Any, self.optimizer), factor)
        return self.lr_scheduler


def vocabulary_of(model: Any) -> torch.nn.Parameter | None:
    """Return the vectors of the vocabulary."""
    model = model.module if hasattr(model, "module") else model
    return model[0].embedding.weight if is_static(model) else transformer_of(model).get_input_embeddings().weight
