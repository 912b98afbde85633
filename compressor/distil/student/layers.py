"""Make a student out of a teacher by keeping some of its layers."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer

from compressor.core.errors import ModelError, RecipeError
from compressor.models.sentence_model import transformer_of


def keep_layers(teacher: SentenceTransformer, layers: tuple[int, ...]) -> SentenceTransformer:
    """Return a copy of ``teacher`` with only the given transformer layers, in the given order.

    The copy's config states the new depth, so that the saved student loads with the layers it was saved
    with. DistilBERT (Sanh et al. 2019, arXiv:1910.01108) starts its student this way. Raises RecipeError
    for an index that is out of range or repeated, or as ``check_first`` does, ModelError where there is no stack of
    layers to cut.
    """
    check_layers(layers, len(find_layers(transformer_of(teacher))[2]))
    check_first(layers, transformer_of(teacher))
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

    None changes nothing. The config's list of a kind a layer is cut in the same way; the stack remembers it whole, so
    that others can be given again.
    """
    parent, name, stack = find_layers(transformer)
    if layers is None:
        return stack
    kinds: list[Any] = getattr(stack, "kinds_of_teacher", None) or _kinds(transformer.config, len(stack))
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


def check_first(layers: tuple[int, ...], transformer: Any) -> None:
    """Raise RecipeError where the first layer is built unlike the others, and another is to be the first."""
    if layers[:1] != (0,) and first_differs(transformer):
        kind = transformer.config.model_type
        raise RecipeError(f"distil.layers = {list(layers)}: must begin with 0, which {kind} builds unlike the others")


def first_differs(transformer: Any) -> bool:
    """Tell whether the first layer holds what the others do not (T5's table of positions), or lacks what they have."""
    stack = find_layers(transformer)[2]
    names = [{name for name, _ in layer.named_parameters()} for layer in stack[:2]]
    return len(names) > 1 and names[0] != names[1]


def _kinds(config: Any, depth: int) -> list[Any]:
    """Return the config's entry a layer (ModernBERT and others have layer_types), or nothing."""
    kinds = getattr(config, "layer_types", None)
    return list(kinds) if isinstance(kinds, list) and len(kinds) == depth else []


def _state_depth(transformer: Any, numbers: Sequence[int], kinds: list[Any], stack: torch.nn.ModuleList) -> None:
    transformer.config.num_hidden_layers = len(numbers)
    if kinds:
        transformer.config.layer_types = [kinds[i] for i in numbers]
    for index, layer in enumerate(stack):
        module: Any
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
