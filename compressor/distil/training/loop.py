"""What every training does around its steps: the trainer's arguments, progress, maps beside checkpoints, going on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PrinterCallback, TrainerCallback

from compressor.distil.training.together import connected

_MAPS = "maps.safetensors"


def arguments(
    checkpoints: Path, steps: int, checkpoint_steps: int, seed: int, bf16: bool, **own: Any
) -> dict[str, Any]:
    """Return what all trainers are given, and what a training has of its ``own``: fields of ``TrainingArguments``."""
    shared: dict[str, Any] = {
        "output_dir": str(checkpoints),
        "max_steps": steps,
        "bf16": bf16,
        "use_cpu": not torch.cuda.is_available(),
        "seed": seed,
        "save_steps": checkpoint_steps,
        "save_total_limit": 1,
        "logging_steps": checkpoint_steps,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": False,
    }
    return shared | own


class Maps:
    """The weights that are trained beside a model's: a trainer's checkpoints do not have them, a file in each does."""

    def __init__(self, module: Any) -> None:
        """Take the module of these weights; anything else has none."""
        self.module = module if isinstance(module, torch.nn.Module) else None

    def weights(self) -> dict[str, torch.Tensor]:
        """Return them by name, as they are trained."""
        return {} if self.module is None else dict(self.module.state_dict())

    def clear_gradients(self) -> None:
        """Begin a step without the last one's: trainers clear a model's own gradients alone (transformers 4)."""
        if self.module is not None:
            self.module.zero_grad()

    def save(self, checkpoint: Path) -> None:
        """Write them beside a checkpoint."""
        if weights := self.weights():
            save_file(weights, checkpoint / _MAPS)

    def load(self, checkpoint: Path) -> None:
        """Go on with those of a checkpoint."""
        if weights := self.weights():
            for name, value in load_file(checkpoint / _MAPS).items():
                weights[name].copy_(value)

    def are_in(self, checkpoint: Path) -> bool:
        """Tell whether a checkpoint has them; one without any has them all."""
        return not self.weights() or (checkpoint / _MAPS).is_file()


class Progress(TrainerCallback):
    """Report each step to the display, and keep the maps with each checkpoint."""

    def __init__(self, advance: Callable[[int], None], batch_size: int, maps: Maps) -> None:
        self.advance, self.batch_size, self.maps = advance, batch_size, maps

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(state.global_step * self.batch_size)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.maps.clear_gradients()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.advance(self.batch_size)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self.maps.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")


@dataclass(frozen=True)
class Finished:
    """A training that came to its end."""

    resumed_at_step: int
    seconds: float
    """Of this run, from where it went on."""


def train(trainer: Any, model: Any, checkpoints: Path, maps: Maps, begin: Callable[[Path | None], None]) -> Finished:
    """Train ``model`` to the end that its trainer has, from the last of ``checkpoints`` on.

    ``begin`` is called just before, with that checkpoint or None. The trainer runs a model in bf16 through a wrapped
    forward; afterwards the model is itself again, in fp32.
    """
    trainer.remove_callback(PrinterCallback)
    kept = last_checkpoint(checkpoints, maps)
    if kept:
        maps.load(kept)
    begin(kept)
    start = time.monotonic()
    with connected():
        trainer.train(resume_from_checkpoint=str(kept) if kept else None)
    seconds = time.monotonic() - start
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    return Finished(_step(kept) if kept else 0, seconds)


def last_checkpoint(folder: Path, maps: Maps) -> Path | None:
    """Return the newest whole checkpoint: a trainer writes its state last, and ``maps`` are written after it."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if maps.are_in(path.parent)]
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
