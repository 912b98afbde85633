"""Make a student out of a teacher by keeping some of its layers."""

import copy
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from compressor.errors import ModelError, RecipeError
from compressor.sentence_model import transformer_of


def keep_layers(teacher: SentenceTransformer, layers: tuple[int, ...]) -> SentenceTransformer:
    """Return a copy of ``teacher`` with only the given transformer layers, in the given order.

    The copy's config states the new depth, so that the saved student loads with the layers it was saved
    with. DistilBERT (Sanh et al. 2019, arXiv:1910.01108) starts its student this way. Raises RecipeError
    for an index that is out of range or repeated, ModelError where there is no stack of layers to cut.
    """
    student = copy.deepcopy(teacher)
    transformer = transformer_of(student)
    parent, name, stack = find_layers(transformer)
    check_layers(layers, len(stack))
    setattr(parent, name, torch.nn.ModuleList(stack[i] for i in layers))
    _state_depth(transformer, layers, len(stack))
    return student


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


def _state_depth(transformer: Any, layers: tuple[int, ...], depth: int) -> None:
    config = transformer.config
    config.num_hidden_layers = len(layers)
    kinds = getattr(config, "layer_types", None)  # ModernBERT and others: one entry a layer
    if isinstance(kinds, list) and len(kinds) == depth:
        config.layer_types = [kinds[i] for i in layers]
    _, _, stack = find_layers(transformer)
    for index, layer in enumerate(stack):
        module: Any
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
