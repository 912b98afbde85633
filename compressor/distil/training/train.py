"""Train a student on its lessons: on sentence-transformers' trainer, to an end that is known before it starts."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from transformers import EarlyStoppingCallback

from compressor.core.config import Config, Seed
from compressor.core.duration import Duration, seconds_of
from compressor.core.errors import RecipeError
from compressor.core.progress import say, track
from compressor.distil.training import loop
from compressor.distil.training.clock import Clock
from compressor.distil.training.lengths import lengths_of
from compressor.distil.training.lessons import Collate, Lessons
from compressor.distil.training.losses import Imitation
from compressor.distil.training.together import meet
from compressor.distil.training.trainer import ImitationTrainer, vocabulary_of
from compressor.machine.describe import in_bf16
from compressor.machine.processes import world
from compressor.models.agreement import Heldout
from compressor.models.attention import FastAttention
from compressor.models.sentence_model import limit_tokens, token_limit
from compressor.vectors.pca import pair_correlation

_JUDGED = 500  # held-out texts that decide on an early stop
_ENDLESS = 10**9  # steps; the clock ends such a training


class Training(Config):
    """How a student is trained."""

    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the texts; parts of one are allowed."""
    time_budget: Duration | None = None
    """Train for so long instead, as 10m or 90s; the learning rate falls to zero as the time runs out. What a machine
    learns in it depends on its speed, and on what else it does."""
    batch_size: Annotated[int, Field(ge=1)] = 128
    """Texts in a training step, of all processes together."""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Parts that a step's texts are computed in, for less memory; losses of pairs then see one part at a time."""
    similar: Annotated[int, Field(ge=1)] = 1
    """Texts that come into a batch together, one and those that the teacher finds most similar to it, so that
    similarities within the batch have something to teach. 1: texts at random."""
    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    """Peak of the learning rate, which then falls to zero in a straight line."""
    embedding_learning_rate: Annotated[float, Field(ge=0)] | None = None
    """Peak of the learning rate of the vocabulary's vectors; a step moves few of them. 0: they stay as they are. None:
    learning_rate."""
    warmup_steps: Annotated[int, Field(ge=0)] = 50
    """Steps over which the learning rate rises to its peak."""
    max_length: Annotated[int, Field(ge=8)] = 64
    """Tokens of a text seen in training; longer texts are cut. The student's own limit stays the teacher's."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto: bf16 where the CPU multiplies it fast."""
    patience: Annotated[int, Field(ge=1)] | None = None
    """Stop after so many checkpoints without better agreement with the teacher on the texts to choose by, and keep the
    best."""
    checkpoint_steps: Annotated[int, Field(ge=1)] = 250
    """Steps between two points that an interrupted training goes on from."""
    seed: Seed = 0
    """Seed of the order of the texts."""

    def decided_here(self) -> bool:
        return in_bf16(self.precision)

    def check_processes(self) -> None:
        """Raise RecipeError for a batch that cannot be shared among the processes and the parts of a step."""
        shares = world() * self.accumulate
        if self.batch_size % shares:
            raise RecipeError(f"distil.batch_size = {self.batch_size}: must be a multiple of {shares}, "
                              f"{world()} processes times accumulate = {self.accumulate}")  # fmt: skip
        if self.time_budget and world() > 1:
            raise RecipeError(f"distil.time_budget = {self.time_budget}: with one process only; give epochs instead")

    def train(
        self,
        student: SentenceTransformer,
        loss: Imitation,
        lessons: Lessons,
        dev: Heldout | None,
        checkpoints: Path,
    ) -> dict[str, Any]:
        """Train ``student`` in place, going on from ``checkpoints``; return figures of the training."""
        self.check_processes()
        meet()
        limit = token_limit(student)
        limit_tokens(student, min(self.max_length, limit or self.max_length))
        _without_dropout(student)
        if self.patience and dev is None:
            raise RecipeError(f"distil.patience = {self.patience}: no texts to choose by")
        vocabulary = vocabulary_of(student)
        if vocabulary is not None and self.embedding_learning_rate == 0:
            vocabulary.requires_grad_(False)
        torch.manual_seed(self.seed)
        clock = Clock(checkpoints / "clock.json", self._seconds())
        collate = Collate(student, lessons, token_limit(student))
        steps = _ENDLESS if clock.budget else max(1, round(self.epochs * len(lessons) / self.batch_size))
        left = clock.left if clock.budget else None
        with track("training", steps * self.batch_size, left=left) as advance, FastAttention():
            trainer = ImitationTrainer(
                lessons,
                collate,
                clock,
                self.embedding_learning_rate,
                self.similar,
                model=student,
                args=self._arguments(checkpoints, steps),
                loss=loss,
                evaluator=None if self.patience is None or dev is None else Agreement(dev, limit),
                callbacks=[_Follow(loss, clock, advance, self.batch_size)]
                + ([EarlyStoppingCallback(self.patience)] if self.patience else []),
            )
            done = loop.train(trainer, student, checkpoints, loop.Maps(loss.states), lambda kept: clock.start())
        collate.sum()
        lengths = lengths_of(collate.tokens, token_limit(student), limit)
        if lengths and lengths.line:
            say(f"  {lengths.line}")
        if limit:
            limit_tokens(student, limit)
        student.to("cpu").eval().requires_grad_(True)
        return {
            "resumed_at_step": done.resumed_at_step,
            "steps": trainer.state.global_step,
            "texts_seen": trainer.state.global_step * self.batch_size,
            "train_seconds": done.seconds,
            "cut_share": collate.cut / max(collate.seen, 1),
            **({"lengths": lengths.as_dict()} if lengths else {}),
        }

    def _seconds(self) -> float | None:
        return seconds_of(self.time_budget) if self.time_budget else None

    def _arguments(self, checkpoints: Path, steps: int) -> Any:
        judged: dict[str, Any] = {}
        if self.patience:
            judged = {
                "save_total_limit": 2,  # the best is not the last
                "eval_strategy": "steps",
                "eval_steps": self.checkpoint_steps,
                "load_best_model_at_end": True,
                "metric_for_best_model": "eval_agreement",
                "greater_is_better": True,
            }
        shared = loop.arguments(checkpoints, steps, self.checkpoint_steps, self.seed, self.decided_here(), **judged)
        return SentenceTransformerTrainingArguments(
            **shared,
            per_device_train_batch_size=self.batch_size // world() // self.accumulate,
            gradient_accumulation_steps=self.accumulate,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            weight_decay=0.0,
            ddp_find_unused_parameters=True if world() > 1 else None,
        )


class Agreement(SentenceEvaluator):
    """Judge a student by how it ranks the most similar texts of those to choose by; needs no labels.

    The texts are cut at ``limit`` tokens, as the student that is saved cuts them, not at training's length.
    """

    primary_metric = "agreement"

    def __init__(self, dev: Heldout, limit: int | None = None) -> None:
        super().__init__()
        self.texts, self.teacher, self.limit = dev.texts[:_JUDGED], dev.teacher[:_JUDGED], limit

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        trained_at = token_limit(model)
        if self.limit:
            limit_tokens(model, self.limit)
        # On a device that is named: left to choose, sentence-transformers 6 has the other processes encode their share,
        # and they cut texts at training's length.
        vectors = model.encode(self.texts, show_progress_bar=False, device=str(model.device))
        if trained_at:
            limit_tokens(model, trained_at)
        model.train()
        return {"agreement": pair_correlation(self.teacher, vectors)}


class _Follow(loop.Progress):
    """Report each step to the display and the loss; end a training whose time is up."""

    def __init__(self, loss: Imitation, clock: Clock, advance: Callable[[int], None], batch_size: int) -> None:
        super().__init__(advance, batch_size, loop.Maps(loss.states))
        self.loss, self.clock = loss, clock

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        super().on_train_begin(args, state, control, **more)
        self._progress(state)

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        super().on_step_end(args, state, control, **more)
        self._progress(state)
        if self.clock.share() >= 1:
            control.should_training_stop = control.should_save = True

    def _progress(self, state: Any) -> None:
        self.loss.progress = self.clock.share() if self.clock.budget else state.global_step / max(state.max_steps, 1)

    def on_save(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.clock.save()
        super().on_save(args, state, control, **more)


def _without_dropout(model: torch.nn.Module) -> None:
    """Turn dropout off: imitation of a fixed target has nothing to regularize."""
    for module in model.modules():
        # A Dropout has p; attention reads a number of the layer that it stands in.
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and (name == "p" or "dropout" in name):
                setattr(module, name, 0.0)
