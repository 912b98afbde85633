"""The calls that an encoder makes of its layers, to be made again of one layer alone."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from compressor.distil.student.sample import Batch


@dataclass(frozen=True)
class Call:
    """The states a layer reads, float32 [texts, tokens, width], and what else it is called with."""

    states: Tensor
    rest: tuple[Any, ...]
    options: dict[str, Any]

    def run(self, layer: Any) -> Tensor:
        """Return the states that ``layer`` makes of these, under the same mask."""
        made = layer(self.states, *self.rest, **self.options)
        states: Tensor = made[0] if isinstance(made, tuple) else made
        return states

    def through(self, layer: Any) -> "Call":
        """Return the call of the layer behind ``layer``."""
        return replace(self, states=self.run(layer))


def record(transformer: Any, layers: list[Any], batches: list[Batch]) -> list[list[Call]]:
    """Run the encoder; return for each batch the call of each layer and, last, one with the states it ends with."""
    calls: list[list[Call]] = []

    def keep(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        keywords = dict(options)
        states, *rest = inputs or (keywords.pop("hidden_states"),)
        calls[-1].append(Call(states, tuple(rest), keywords))

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    try:
        for batch in batches:
            calls.append([])
            ended = transformer(**batch.features).last_hidden_state
            calls[-1].append(replace(calls[-1][0], states=ended))
    finally:
        for hook in hooks:
            hook.remove()
    return calls
