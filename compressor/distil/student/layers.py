"""Make a student out of a teacher by keeping some of its layers."""

import copy
import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer

from compressor.core.errors import ModelError, RecipeError
from compressor.models.sentence_model import transformer_of

_BY_LAYER = ("layer_types", "mlp_layer_types", "attention_window")
"""Lists of a config that have an entry a layer; ``attention_window`` is Longformer's."""
_NUMBER = re.compile(r"layer_?(id|idx|index|number)|^training$|^_")


def keep_layers(teacher: SentenceTransformer, layers: tuple[int, ...]) -> SentenceTransformer:
    """Return a copy of ``teacher`` with only the given transformer layers, in the given order.

    The copy's config states the new depth, so that the saved student loads with the layers it was saved
    with. DistilBERT (Sanh et al. 2019, arXiv:1910.01108) starts its student this way. Raises RecipeError
    for an index that is out of range or repeated, or as ``check_places`` does, ModelError where there is no stack of
    layers to cut.
    """
    check_layers(layers, len(find_layers(transformer_of(teacher))[2]))
    check_places(layers, transformer_of(teacher))
    student = copy.deepcopy(teacher)
    transformer = transformer_of(student)
    stack = restack(transformer, None)
    made: Any = restack(transformer, [(i, stack[i]) for i in layers])
    del made.kinds_of_teacher  # the student's layers are numbered anew
    return student


def spread_layers(count: int, depth: int, choice: Literal["uniform", "first", "last"]) -> tuple[int, ...]:
    """Return ``count`` of ``depth`` layers: spread from the first to the last, the first, or the last."""
    if choice == "first":
        return tuple(range(count))
    if choice == "last":
        return tuple(range(depth - count, depth))
    return tuple(round(i * (depth - 1) / max(count - 1, 1)) for i in range(count))


def restack(transformer: Any, layers: Sequence[tuple[int, torch.nn.Module]] | None) -> torch.nn.ModuleList:
    """Give ``transformer`` these layers, each with its number in the teacher; return the stack that it then has.

    None changes nothing. The config's lists of a value a layer are cut in the same way; the stack remembers them whole,
    so that others can be given again.
    """
    parent, name, stack = find_layers(transformer)
    if layers is None:
        return stack
    kinds: dict[str, list[Any]] = getattr(stack, "kinds_of_teacher", None) or _kinds(transformer.config, len(stack))
    made: Any = torch.nn.ModuleList(layer for _, layer in layers)
    made.kinds_of_teacher = kinds
    setattr(parent, name, made)
    _state_depth(transformer, [number for number, _ in layers], kinds, made)
    return made


def find_layers(transformer: Any) -> tuple[torch.nn.Module, str, torch.nn.ModuleList]:
    """Find the stack of layers by its structure: as many alike modules in a row as the config has layers."""
    depth = getattr(transformer.config, "num_hidden_layers", 0)
    for parent in transformer.modules():
        for name, child in parent.named_children():
            if isinstance(child, torch.nn.ModuleList) and len(child) == depth and _alike(child):
                if _lists_of(parent, depth) > 1:  # XLM: a layer's parts lie in lists side by side
                    break
                return parent, name, child
    kind = getattr(transformer.config, "model_type", type(transformer).__name__)
    raise ModelError(f"{kind}: no stack of {depth} layers of its own weights to keep layers of")


def _lists_of(parent: torch.nn.Module, depth: int) -> int:
    return sum(isinstance(child, torch.nn.ModuleList) and len(child) == depth for child in parent.children())


def _alike(modules: torch.nn.ModuleList) -> bool:
    return len({type(module) for module in modules}) == 1


def check_layers(layers: tuple[int, ...], depth: int) -> None:
    """Raise RecipeError for layers that are out of range, repeated or none."""
    outside = [i for i in layers if not 0 <= i < depth]
    if outside:
        raise RecipeError(f"distil.layers = {list(layers)}: layer {outside[0]} is not in 0..{depth - 1}")
    if len(set(layers)) != len(layers):
        raise RecipeError(f"distil.layers = {list(layers)}: a layer is repeated")
    if not layers:
        raise RecipeError("distil.layers = []: keep at least one layer")


def check_places(layers: tuple[int, ...], transformer: Any) -> None:
    """Raise RecipeError for layers that a student, which is built by its config, would build otherwise.

    The first may be unlike the others; and where a family builds layers by their number, as ModernBERT every third in
    transformers 4, with no list of it in the config, each must come to where the teacher has one alike.
    """
    kind, stack = transformer.config.model_type, find_layers(transformer)[2]
    if layers[:1] != (0,) and first_differs(transformer):
        raise RecipeError(f"distil.layers = {list(layers)}: must begin with 0, which {kind} builds unlike the others")
    if _kinds(transformer.config, len(stack)):
        return
    built = [_built(layer) for layer in stack]
    for place, number in enumerate(layers):
        if built[number] != built[place]:
            allowed = ", ".join(str(i) for i, other in enumerate(built) if other == built[place])
            line = f"layer {number} would be layer {place}, and {kind} builds layers by their number"
            raise RecipeError(f"distil.layers = {list(layers)}: {line}; there must be one of {allowed}")


def check_searched(transformer: Any) -> None:
    """Raise RecipeError where not every layer but the first can come to every place, so none can be searched for."""
    stack = find_layers(transformer)[2]
    if not _kinds(transformer.config, len(stack)) and any(_built(x) != _built(stack[-1]) for x in stack[1:]):
        kind = transformer.config.model_type
        raise RecipeError(
            f'distil.choice = "searched": {kind} builds layers by their number; give distil.layers as a list'
        )


def _built(layer: torch.nn.Module) -> dict[str, Any]:
    """Return what a layer's modules were built with, by name: numbers and words, but for the layer's own number."""
    return {
        f"{path}.{name}": value
        for path, module in layer.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str | tuple | None) and not _NUMBER.search(name)
    }


def first_differs(transformer: Any) -> bool:
    """Tell whether the first layer holds what the others do not (T5's table of positions), or lacks what they have."""
    stack = find_layers(transformer)[2]
    names = [{name for name, _ in layer.named_parameters()} for layer in stack[:2]]
    return len(names) > 1 and names[0] != names[1]


def _kinds(config: Any, depth: int) -> dict[str, list[Any]]:
    """Return the config's lists of an entry a layer, by name."""
    stated = {name: getattr(config, name, None) for name in _BY_LAYER}
    return {name: list(v) for name, v in stated.items() if isinstance(v, list | tuple) and len(v) == depth}


def _state_depth(
    transformer: Any, numbers: Sequence[int], kinds: dict[str, list[Any]], stack: torch.nn.ModuleList
) -> None:
    transformer.config.num_hidden_layers = len(numbers)
    for name, values in kinds.items():
        setattr(transformer.config, name, [values[i] for i in numbers])
    for index, layer in enumerate(stack):
        module: Any
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
