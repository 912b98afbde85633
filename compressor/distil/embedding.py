"""Teach a student with fewer layers to give the teacher's vectors."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from pydantic import Field
from sentence_transformers import (
    DefaultBatchSampler,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import MSELoss
from transformers import PrinterCallback, TrainerCallback

from compressor.artifact import Draft
from compressor.distil.student import check_layers, find_layers, keep_layers
from compressor.errors import ModelError
from compressor.machine import bf16_is_fast
from compressor.progress import track
from compressor.recipe import Config
from compressor.sentence_model import TorchEncoder, open_model, transformer_of
from compressor.vectors import VectorStore


class Distil(Config):
    """Keep some of the teacher's layers and train them to imitate its vectors."""

    layers: tuple[int, ...] = (0, 2, 5)
    """The teacher's layers that the student keeps, counted from 0."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the texts; parts of one are allowed."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Texts in a training step."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """Peak of the learning rate, which then falls to zero in a straight line."""
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    """Steps over which the learning rate rises to its peak."""
    max_length: Annotated[int, Field(ge=8)] = 64
    """Tokens of a text seen in training; longer texts are cut. The student's own limit stays the teacher's."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto: bf16 where the CPU multiplies it fast."""
    checkpoint_steps: Annotated[int, Field(ge=1)] = 250
    """Steps between two points that an interrupted training goes on from."""
    seed: int = 0
    """Seed of the order of the texts."""

    def check(self, teacher: SentenceTransformer) -> None:
        """Raise RecipeError if the teacher does not have the layers to keep."""
        check_layers(self.layers, len(find_layers(transformer_of(teacher))[2]))

    def run(
        self,
        teacher: Path,
        texts: Sequence[str],
        vectors: NDArray[np.float16] | VectorStore,
        checkpoints: Path,
        draft: Draft,
    ) -> None:
        """Write the student into ``draft``; go on from ``checkpoints`` if an earlier run left some there.

        ``vectors`` are the teacher's, [len(texts), dim]. The loss is the squared error of the vectors
        (Reimers and Gurevych 2020, arXiv:2004.09813), which for unit vectors orders as the cosine does.
        """
        student = keep_layers(open_model(teacher), self.layers)
        start = time.monotonic()
        draft.figures["resumed_at_step"] = self._train(student, list(texts), vectors, checkpoints)
        draft.figures["layers"] = list(self.layers)
        draft.figures["train_seconds"] = time.monotonic() - start
        draft.figures["texts_seen"] = round(self.epochs * len(texts))
        save_student(student, draft.folder, list(texts[:8]))

    def _train(
        self,
        student: SentenceTransformer,
        texts: list[str],
        vectors: NDArray[np.float16] | VectorStore,
        checkpoints: Path,
    ) -> int:
        """Train ``student`` in place; return the step that it went on from, 0 for one from the start."""
        limit = student.max_seq_length
        student.max_seq_length = min(self.max_length, limit or self.max_length)
        _without_dropout(student)
        rows = Dataset.from_dict({"sentence": texts, "label": list(range(len(texts)))})
        with track("training", round(self.epochs * len(texts))) as advance:
            trainer = LengthGroupedTrainer(
                _lengths(student, texts),
                model=student,
                args=self._arguments(checkpoints),
                train_dataset=rows,
                loss=Imitation(student, vectors),
                callbacks=[_Advance(advance, self.batch_size)],
            )
            trainer.remove_callback(PrinterCallback)
            kept = _last_checkpoint(checkpoints)
            trainer.train(resume_from_checkpoint=kept)
        # The trainer runs the model in bf16 through a wrapped forward; the student itself is fp32.
        trainer.accelerator.unwrap_model(student, keep_fp32_wrapper=False)
        student.max_seq_length = limit
        student.to("cpu").eval()
        return int(kept.rsplit("-", 1)[-1]) if kept else 0

    def _arguments(self, checkpoints: Path) -> Any:
        bf16 = self.precision == "bf16" or (self.precision == "auto" and bf16_is_fast())
        return SentenceTransformerTrainingArguments(
            output_dir=str(checkpoints),
            num_train_epochs=self.epochs,
            per_device_train_batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=self.warmup_steps,
            weight_decay=0.0,
            optim="adamw_torch_fused",
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
            seed=self.seed,
            save_steps=self.checkpoint_steps,
            save_total_limit=1,
            logging_steps=self.checkpoint_steps,
            disable_tqdm=True,
            report_to="none",
            dataloader_pin_memory=False,
        )


class Imitation(MSELoss):
    """sentence-transformers' MSELoss with a text's row number as its label: the vector stays on disk till used."""

    def __init__(self, model: SentenceTransformer, vectors: NDArray[np.float16] | VectorStore) -> None:
        super().__init__(model)
        self.vectors = vectors

    def forward(self, sentence_features: Any, labels: Any) -> torch.Tensor:
        """Return the mean over the batch of the squared distance to the teacher's vectors, a scalar."""
        rows = self.vectors[labels.cpu().numpy()].astype(np.float32)
        # Times dim: the squared distance of the vectors, not its mean over components.
        return super().forward(sentence_features, torch.from_numpy(rows).to(labels.device)) * rows.shape[1]


class LengthGroupedBatches(DefaultBatchSampler):
    """Batches of texts of like length, in random order: no step computes on padding.

    Each epoch is shuffled anew by seed and epoch, cut into pools of 50 batches, and sorted within a pool.
    """

    _POOL = 50

    def __init__(
        self, dataset: Any, batch_size: int, lengths: NDArray[np.int64], drop_last: bool, *rest: Any, **options: Any
    ) -> None:
        super().__init__(dataset, batch_size, drop_last, *rest, **options)
        self.lengths = lengths

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        pool = self._POOL * self.batch_size
        for start in range(0, len(order), pool):
            rows = order[start : start + pool]
            rows = rows[np.argsort(self.lengths[rows], kind="stable")]
            batches = [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
            for index in random.permutation(len(batches)):
                yield batches[index].tolist()

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)


class LengthGroupedTrainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer with batches of like length; ``lengths`` int64 [texts], in tokens."""

    def __init__(self, lengths: NDArray[np.int64], **options: Any) -> None:
        self.lengths = lengths
        super().__init__(**options)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Leave out the library's own model card, which runs examples; ours is made from measured figures."""

    def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, *rest: Any, **options: Any) -> Any:
        """Return the batches of an epoch."""
        options["seed"] = self.args.seed  # sentence-transformers 5 does not hand it on
        return LengthGroupedBatches(dataset, batch_size, self.lengths, drop_last, *rest, **options)


class _Advance(TrainerCallback):
    """Report each step to the progress display."""

    def __init__(self, advance: Callable[[int], None], batch_size: int) -> None:
        self.advance, self.batch_size = advance, batch_size

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(state.global_step * self.batch_size)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(self.batch_size)


def save_student(student: SentenceTransformer, folder: Path, texts: list[str]) -> None:
    """Save in safetensors, load again, and compare the vectors of ``texts``.

    Raises ModelError if the saved student is not the trained one: a config that still states the
    teacher's depth loads with random layers and scores almost the same.
    """
    student.save_pretrained(str(folder), create_model_card=False, safe_serialization=True)
    before, after = TorchEncoder(student).encode(texts), TorchEncoder.load(folder).encode(texts)
    difference = float(np.abs(before - after).max())
    if difference > 1e-5:
        raise ModelError(f"{folder}: the saved student differs from the trained one by {difference:.1e}")


def _without_dropout(model: torch.nn.Module) -> None:
    """Turn dropout off: imitation of a fixed target has nothing to regularize."""
    for module in model.modules():
        # A Dropout has p; fused attention reads a number of the layer that it stands in.
        for name in ("p", "dropout_prob", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _lengths(model: SentenceTransformer, texts: list[str]) -> NDArray[np.int64]:
    encoded = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length)
    return np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64)


def _last_checkpoint(folder: Path) -> str | None:
    """Return the newest whole checkpoint: a trainer writes its state last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None
