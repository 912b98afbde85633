"""The mean of the weights over the end of a training, which generalises better than the last ones."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

_FILE = "average.safetensors"
_COUNT = "steps averaged"


class Average(TrainerCallback):
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407) over the steps from ``first`` on.

    The mean is kept in fp32 beside the checkpoints, so that a training that was stopped goes on with it.
    """

    def __init__(self, model: torch.nn.Module, first: int) -> None:
        self.trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.first, self.count = first, 0
        self.mean: dict[str, torch.Tensor] = {}

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint that holds a mean."""
        if (checkpoint / _FILE).is_file():
            self.mean = load_file(checkpoint / _FILE)
            self.count = int(self.mean.pop(_COUNT))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < self.first:
            return
        self.count += 1
        for name, weight in self.trained.items():
            own = weight.detach().float()
            if self.count == 1:
                self.mean[name] = own.cpu().clone()
            else:
                self.mean[name].lerp_(own.to(self.mean[name]), 1 / self.count)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.count:
            kept = self.mean | {_COUNT: torch.tensor(self.count)}
            save_file(kept, Path(args.output_dir) / f"checkpoint-{state.global_step}" / _FILE)

    @torch.no_grad()
    def apply(self) -> None:
        """Give the model the mean."""
        for name, mean in self.mean.items():
            self.trained[name].copy_(mean)
