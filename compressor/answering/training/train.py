"""Train a reader on its lessons, on transformers' trainer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from compressor.answering.readers.attention import keep_attention
from compressor.answering.readers.model import reads
from compressor.answering.training.average import Average
from compressor.answering.training.lessons import CollateWindows, WindowLessons
from compressor.answering.training.losses import PredictionLayer
from compressor.core.config import Config, Seed
from compressor.core.progress import track
from compressor.distil.training import loop
from compressor.distil.training.lessons import Numbers
from compressor.distil.training.states import Matching
from compressor.distil.training.trainer import LengthGroupedBatches
from compressor.machine.describe import in_bf16
from compressor.machine.processes import alone
from compressor.models.attention import FastAttention


class ReaderTraining(Config):
    """How a reader is trained."""

    batch_size: Annotated[int, Field(ge=1)] = 16
    """Windows in a training step."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps over which the learning rate rises to its peak; then it falls to zero in a straight line."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Pull of the weights towards zero, by AdamW."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps, the last ones, over which the weights are averaged; 0: as the last step leaves them."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto: bf16 where the CPU multiplies it fast."""
    checkpoint_steps: Annotated[int, Field(ge=1)] = 250
    """Steps between two points that an interrupted training goes on from."""
    seed: Seed = 0
    """Seed of the order of the questions, of dropout and of a new head."""

    def decided_here(self) -> bool:
        return in_bf16(self.precision)

    def train(
        self,
        model: Any,
        lessons: WindowLessons,
        loss: "ReaderLoss",
        learning_rate: float,
        epochs: float,
        checkpoints: Path,
    ) -> dict[str, Any]:
        """Train ``model`` in place, going on from ``checkpoints``; return figures of the training."""
        steps = max(1, round(epochs * len(lessons) / self.batch_size))
        torch.manual_seed(self.seed)
        alone("a reader trains")
        keep_attention(model)
        average = Average(model, steps - max(1, round(self.average * steps)) + 1) if self.average else None
        with track("training", steps * self.batch_size, "windows") as advance:
            trainer = ReaderTrainer(
                lessons,
                loss,
                model=model,
                args=self._arguments(checkpoints, steps, learning_rate),
                callbacks=[loop.Progress(advance, self.batch_size, loop.Maps(loss)), *([average] if average else [])],
            )

            def begin(kept: Path | None) -> None:
                if average and kept:
                    average.load(kept)

            with FastAttention():
                done = loop.train(trainer, model, checkpoints, loop.Maps(loss), begin)
        if average:
            average.apply()
        model.to("cpu").eval()
        return {
            "steps": steps,
            "windows": len(lessons),
            "train_seconds": done.seconds,
            "resumed_at_step": done.resumed_at_step,
        }

    def _arguments(self, checkpoints: Path, steps: int, learning_rate: float) -> TrainingArguments:
        return TrainingArguments(
            **loop.arguments(checkpoints, steps, self.checkpoint_steps, self.seed, self.decided_here()),
            per_device_train_batch_size=self.batch_size,
            learning_rate=learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=round(self.warmup * steps),
            weight_decay=self.weight_decay,
            remove_unused_columns=False,
        )


class ReaderLoss(torch.nn.Module):
    """The weighted sum of a batch's losses: of the answers, and of the states that ``matching`` compares."""

    def __init__(
        self,
        layer: PredictionLayer,
        prediction: float = 1.0,
        matching: Matching | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.layer, self.prediction, self.matching, self.weights = layer, prediction, matching, dict(weights or {})

    def forward(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, Any]:
        """Return the loss of one batch, a scalar, and what the model gave."""
        made = model(**inputs["features"])
        logits = made.start_logits.float(), made.end_logits.float()
        total = logits[0].new_zeros(())
        if self.prediction:
            answers = self.layer.loss(logits, inputs["labels"], inputs["valid"], inputs.get("teacher"))
            total = total + self.prediction * answers
        if self.matching is not None:
            for name, value in self.matching(inputs["features"]).items():
                total = total + self.weights[name] * value
        return total, made


class ReaderTrainer(Trainer):
    """transformers' trainer, fed with windows and with our losses."""

    def __init__(self, lessons: WindowLessons, loss: ReaderLoss, **options: Any) -> None:
        super().__init__(train_dataset=Numbers(len(lessons)), **options)
        model: Any = self.model
        self.lessons, self.loss = lessons, loss.to(model.device)  # its maps are trained where the model is

    def get_train_dataloader(self) -> Any:
        """Return the batches of an epoch, windows of like length together."""
        model: Any = self.model
        collate = CollateWindows(self.lessons, int(model.config.pad_token_id or 0), reads(model))
        batches: Any = LengthGroupedBatches(self.lessons, self.args.per_device_train_batch_size, self.args.seed)
        loader: Any = DataLoader(Numbers(len(self.lessons)), batch_sampler=batches, collate_fn=collate)
        self.accelerator.even_batches = False
        return self.accelerator.prepare(loader)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the loss of one batch."""
        loss, made = self.loss(model, inputs)
        return (loss, made) if return_outputs else loss

    def create_optimizer(self, *_: Any) -> Any:
        """Make AdamW of the model's weights and the maps between states; vectors do not decay."""
        if self.optimizer is None:
            parameters = [p for m in (cast(torch.nn.Module, self.model), self.loss) for p in m.parameters()]
            trained = [p for p in parameters if p.requires_grad]
            groups = [
                {"params": [p for p in trained if p.ndim > 1], "weight_decay": self.args.weight_decay},
                {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
            ]
            self.optimizer = torch.optim.AdamW(groups, lr=self.args.learning_rate, fused=True)
        return self.optimizer
