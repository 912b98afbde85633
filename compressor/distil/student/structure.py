"""The parts of an encoder's layers, found by watching it run rather than by the names of one family."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, LayerNorm, Linear

from compressor.core.errors import ModelError
from compressor.distil.student.layers import find_layers

_LAYER = [Linear] * 4 + [LayerNorm] + [Linear] * 2 + [LayerNorm]
"""What a layer runs whose LayerNorms come after the residuals: attention, normalized, feed-forward, normalized."""


@dataclass(frozen=True)
class Block:
    """The parts of one layer. ``attention`` is the module that holds query, key and value."""

    layer: Any
    attention: Any
    query: Linear
    key: Linear
    value: Linear
    out: Linear
    norm: LayerNorm
    up: Linear
    down: Linear
    last_norm: LayerNorm

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the linear and normalizing modules by name."""
        return {name: part for name, part in vars(self).items() if name not in ("layer", "attention")}


@dataclass(frozen=True)
class Parts:
    """The parts of an encoder: tables that are summed, their LayerNorm, the layers; ``heads`` are counted a layer."""

    kind: str
    tables: list[Embedding]
    words: Embedding
    norm: LayerNorm
    biases: list[Embedding]
    """What all layers add to their heads' scores by how far apart two tokens are, [distances, heads]."""
    blocks: list[Block]
    head_size: int

    def heads(self, index: int) -> int:
        """Return how many heads layer ``index`` has."""
        return self.blocks[index].query.out_features // self.head_size

    @property
    def unnarrowed(self) -> str:
        """Say why width and number of heads must stay; empty where they need not."""
        return f"{self.kind}: its layers share a bias a head" if self.biases else ""

    def check_heads(self, width: int | None, heads: int | None) -> None:
        """Raise ModelError for another width or number of heads where they must stay."""
        for name, value, own in (("width", width, len(self.norm.weight)), ("heads", heads, self.heads(0))):
            if self.unnarrowed and value not in (None, own):
                raise ModelError(f"{self.unnarrowed}: {name} = {value} must be left out")


def find_parts(transformer: Any) -> Parts:
    """Find the parts of a BERT-like encoder: learned positions, LayerNorm after each residual, no gate.

    A bias a head that all layers share may stand beside the positions.
    Raises ModelError, with the reason, for an encoder that is built otherwise.
    """
    kind, stack = str(transformer.config.model_type), list(find_layers(transformer)[2])
    calls = _calls(transformer)
    inside = [{id(module) for module in layer.modules()} for layer in stack]
    in_layers = set().union(*inside)
    first = next((i for i, (module, _) in enumerate(calls) if id(module) in in_layers), len(calls))
    before = [module for module, _ in calls[:first]]
    biases = _shared_biases(transformer.config, before)
    before = before[: len(before) - len(biases)]
    tables = [module for module in before if isinstance(module, Embedding)]
    _check_embeddings(kind, transformer, before, tables, [module for module, _ in calls[first:]])
    blocks = [
        _block(kind, layer, [(m, x) for m, x in calls if id(m) in own])
        for layer, own in zip(stack, inside, strict=True)
    ]
    words = next(table for table in tables if table.num_embeddings == transformer.config.vocab_size)
    return Parts(kind, tables, words, before[-1], biases, blocks, _head_size(transformer, blocks[0]))


@contextmanager
def watching(modules: dict[str, torch.nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Keep the last input and output of each module, by name, while the context is open."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen[name] = (inputs[0], output)

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _calls(transformer: Any) -> list[tuple[Any, Any]]:
    """Return the table, linear and normalizing modules in the order in which they run, each with its input."""
    calls: list[tuple[Any, Any]] = []
    leaves = [
        m for m in transformer.modules() if next(m.children(), None) is None and next(m.parameters(), None) is not None
    ]
    hooks = [m.register_forward_hook(lambda m, x, y: calls.append((m, x[0] if x else None))) for m in leaves]
    ids = torch.full((1, 4), min(5, transformer.config.vocab_size - 1), device=transformer.device)
    takes_mask = "attention_mask" in inspect.signature(transformer.forward).parameters  # FNet does not
    try:
        with torch.inference_mode():
            transformer(input_ids=ids, **({"attention_mask": torch.ones_like(ids)} if takes_mask else {}))
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _check_embeddings(
    kind: str, transformer: Any, before: list[Any], tables: list[Embedding], after: list[Any]
) -> None:
    config = transformer.config
    width = config.hidden_size
    if any("rotary" in type(module).__name__.lower() for module in transformer.modules()):
        raise ModelError(f"{kind}: positions are rotary, not learned; only whole layers can be left out")
    biases = [
        m
        for m in (*after, *tables)
        if isinstance(m, Embedding) and m.embedding_dim == getattr(config, "num_attention_heads", 0)
    ]
    if biases or any(isinstance(module, Embedding) for module in after) or _relative(config):
        raise ModelError(f"{kind}: positions are relative, not learned; only whole layers can be left out")
    if any(table.embedding_dim != width for table in tables) or any(isinstance(m, Linear) for m in before):
        raise ModelError(
            f"{kind}: its embeddings are of another width than its layers; only whole layers can be left out"
        )
    positions = [table for table in tables if table.num_embeddings == getattr(config, "max_position_embeddings", 0)]
    words = [table for table in tables if table.num_embeddings == config.vocab_size]
    if not positions or not words:
        raise ModelError(f"{kind}: no learned positions are added to its tokens; only whole layers can be left out")
    if not isinstance(before[-1], LayerNorm) or sum(isinstance(module, LayerNorm) for module in before) != 1:
        raise ModelError(f"{kind}: no LayerNorm follows its embeddings; only whole layers can be left out")


def _shared_biases(config: Any, before: list[Any]) -> list[Embedding]:
    """Return the tables behind the embeddings' LayerNorm that hold a bias a head (MPNet), which every layer adds."""
    last = max((i for i, module in enumerate(before) if isinstance(module, LayerNorm)), default=len(before))
    behind = before[last + 1 :]
    heads = getattr(config, "num_attention_heads", 0)
    shared = all(isinstance(module, Embedding) and module.embedding_dim == heads for module in behind)
    return behind if shared else []


def _relative(config: Any) -> bool:
    stated = getattr(config, "position_embedding_type", None) or "absolute"
    return bool(stated != "absolute" or getattr(config, "relative_attention", False))


def _block(kind: str, layer: Any, calls: list[tuple[Any, Tensor]]) -> Block:
    modules = [module for module, _ in calls]
    if [type(module) for module in modules] != _LAYER or modules[5].out_features != modules[6].in_features:
        runs = " ".join(type(module).__name__ for module in modules)
        raise ModelError(f"{kind}: a layer runs {runs}; wanted four Linear, LayerNorm, two Linear (no gate), LayerNorm")
    if len({x.data_ptr() for _, x in calls[:3]}) != 1:
        raise ModelError(f"{kind}: query, key and value do not read the same states")
    names = {module: name for name, module in layer.named_modules()}
    roles = {_role(names[module]): module for module in modules[:3]}
    if set(roles) != {"q", "k", "v"}:
        raise ModelError(f"{kind}: query, key and value cannot be told apart in {[names[m] for m in modules[:3]]}")
    attention = layer.get_submodule(names[roles["q"]].rpartition(".")[0])
    return Block(layer, attention, roles["q"], roles["k"], roles["v"], *modules[3:])


def _role(name: str) -> str:
    found = re.match(r"(q|k|v)(uery|ey|alue)?(_|$)", name.rpartition(".")[2])
    return found.group(1) if found else name


def _head_size(transformer: Any, block: Block) -> int:
    stated = getattr(block.attention, "attention_head_size", None) or getattr(block.attention, "head_dim", None)
    return int(stated or transformer.config.hidden_size // transformer.config.num_attention_heads)
