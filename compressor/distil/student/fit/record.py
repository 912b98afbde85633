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


def record(transformer: Any, layers: list[Any], batches: list[Batch], ending: Any | None = None) -> list[list[Call]]:
    """Run the encoder; return for each batch the call of each layer and, last, one with the states it ends with.

    ``ending`` is the norm behind all layers, if there is one: the states are then those that it reads.
    """
    calls: list[list[Call]] = []

    def keep(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        keywords = dict(options)
        states, *rest = inputs or (keywords.pop("hidden_states"),)
        if "past_key_values" in keywords:
            keywords["past_key_values"] = None  # a cache would grow when the layer is called again
        calls[-1].append(Call(states, tuple(rest), keywords))

    def keep_last(norm: Any, inputs: tuple[Any, ...]) -> None:
        calls[-1].append(replace(calls[-1][0], states=inputs[0]))

    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in layers]
    if ending is not None:
        hooks.append(ending.register_forward_pre_hook(keep_last))
    try:
        for batch in batches:
            calls.append([])
            ended = transformer(**batch.features).last_hidden_state
            if ending is None:
                calls[-1].append(replace(calls[-1][0], states=ended))
    finally:
        for hook in hooks:
            hook.remove()
    return calls
