"""Find the parts of an encoder's layers by watching it run rather than by the names of one family."""

import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Embedding, LayerNorm, Linear

from compressor.core.errors import ModelError
from compressor.distil.student.layers import find_layers
from compressor.distil.student.parts import Block, Parts

_AFTER = re.compile("(L+)N(L+)N")
"""What a layer runs that normalizes behind its residuals: products of attention, N, of the feed-forward, N."""
_BEFORE = re.compile("N?(L+)N(L+)")
"""What a layer runs that normalizes what it reads; the first may have nothing to normalize (ModernBERT)."""

_TOKENS = 5  # of the text that an encoder is run on; odd, which no window inside it divides


@dataclass(frozen=True)
class _Run:
    """One run of a module: what it read first and what it gave."""

    module: Any
    read: Any
    gave: Any


def find_parts(transformer: Any) -> Parts:
    """Find the parts of an encoder of attention and feed-forwards, each added to what it read.

    Norms stand behind each sum (BERT), or in front of what reads it (ModernBERT, T5); the feed-forward may have a gate.
    Raises ModelError, with the reason, for an encoder that is built otherwise. That its sums are what they are taken
    for is held against a run.
    """
    kind, stack = str(transformer.config.model_type), list(find_layers(transformer)[2])
    width = int(transformer.config.hidden_size)
    runs = _runs(transformer, stack)
    inside = [{id(module) for module in layer.modules()} for layer in stack]
    in_layers = set().union(*inside)
    places = [i for i, run in enumerate(runs) if id(run.module) in in_layers]
    _check_tokens(kind, next(run.read for run in runs if run.module is stack[0]))
    before, between, behind = _parted(runs, places, in_layers)
    if between:
        raise ModelError(f"{kind}: {_names(between)} run between its layers; only whole layers can be left out")
    found = [
        _block(kind, width, layer, [run for run in runs if id(run.module) in own])
        for layer, own in zip(stack, inside, strict=True)
    ]
    blocks, afters = [block for block, _ in found], {after for _, after in found}
    if len(afters) > 1:
        raise ModelError(f"{kind}: its layers are not all built alike; only whole layers can be left out")
    _check_neurons(kind, transformer, blocks[0], next(run.read for run in runs if run.module is blocks[0].down))
    head_size = _head_size(transformer, blocks[0])
    if afters == {True}:
        return _embedded(Parts(kind, width, blocks, head_size, None), transformer, [run.module for run in before])
    ending = _ending(kind, behind, next(run.gave for run in runs if run.module is stack[-1]))
    reason = f"{kind}: its layers normalize what they read; states are as wide as the teacher's"
    heads = f"{kind}: its layers normalize what they read; heads are as many as the teacher's"
    return Parts(kind, width, blocks, head_size, ending, unnarrowed=reason, unheaded=heads)


def is_gated(transformer: Any) -> bool:
    """Tell whether a neuron of an encoder's feed-forwards has a gate; ModelError as ``find_parts`` raises it."""
    block = find_parts(transformer).blocks[0]
    return sum(feed.out_features for feed in block.feeds) > block.neurons


def _runs(transformer: Any, stack: list[Any]) -> list[_Run]:
    """Run the encoder on a few tokens; return the modules that hold numbers, and the layers, in the order they end."""
    runs: list[_Run] = []

    def keep(module: Any, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        read = inputs[0] if inputs else options.get("hidden_states")
        runs.append(_Run(module, read, output[0] if isinstance(output, tuple) else output))

    leaves = [m for m in transformer.modules() if next(m.children(), None) is None and _has_numbers(m)]
    hooks = [m.register_forward_hook(keep, with_kwargs=True) for m in (*leaves, *stack)]
    _run(transformer, hooks)
    return runs


def _run(transformer: Any, hooks: Iterable[Any]) -> None:
    """Run the encoder on a few tokens without dropout, and then take the hooks away."""
    ids = torch.arange(2, 2 + _TOKENS, device=transformer.device)[None] % transformer.config.vocab_size
    takes_mask = "attention_mask" in inspect.signature(transformer.forward).parameters  # FNet does not
    training = transformer.training
    transformer.eval()
    try:
        with torch.inference_mode():
            transformer(input_ids=ids, **({"attention_mask": torch.ones_like(ids)} if takes_mask else {}))
    finally:
        transformer.train(training)
        for hook in hooks:
            hook.remove()


def _check_tokens(kind: str, read: Any) -> None:
    """Raise ModelError where the first layer does not read as many tokens as the encoder (Longformer pads them)."""
    if not isinstance(read, Tensor) or read.shape[:2] != (1, _TOKENS):
        shape = list(read.shape) if isinstance(read, Tensor) else "no states"
        raise ModelError(
            f"{kind}: its first layer reads {shape} of a text of {_TOKENS} tokens; only whole layers can be left out"
        )


def _has_numbers(module: Any) -> bool:
    return next(module.parameters(), None) is not None


def _parted(runs: list[_Run], places: list[int], in_layers: set[int]) -> tuple[list[_Run], list[_Run], list[_Run]]:
    """Return what runs before the layers, between them and behind them."""
    if not places:
        return runs, [], []
    between = [run for run in runs[places[0] : places[-1]] if id(run.module) not in in_layers]
    return runs[: places[0]], between, runs[places[-1] + 1 :]


def _block(kind: str, width: int, layer: Any, runs: list[_Run]) -> tuple[Block, bool]:
    """Return a layer's parts, and whether it normalizes behind its residuals."""
    first: dict[int, _Run] = {}
    for run in runs:  # DeBERTa runs some of them again
        first.setdefault(id(run.module), run)
    ends = first.pop(id(layer), _Run(layer, None, None))
    parts = [run for run in first.values() if _letter(run.module, width)]
    order = "".join(_letter(run.module, width) for run in parts)
    after = _AFTER.fullmatch(order)
    match = after or _BEFORE.fullmatch(order)
    if match is None:
        raise ModelError(f"{kind}: {_built(parts, order)}; only whole layers can be left out")
    attention, feed = ([parts[i] for i in range(*match.span(group))] for group in (1, 2))
    norms = tuple(parts[i] for i in (match.end(1), match.end(2)) if i < len(parts))
    if after and not all(isinstance(n.module, LayerNorm) and n.module.bias is not None for n in norms):
        raise ModelError(f"{kind}: {_names(list(norms))} stand behind its residuals; wanted LayerNorm with a bias")
    _check_sums(kind, bool(after), ends, attention, feed, norms)
    names = {module: name for name, module in layer.named_modules()}
    reads = _reads(kind, attention, names)
    holder = layer.get_submodule(names[reads[0]].rpartition(".")[0])
    feeds = _feeds(kind, feed)
    block = Block(layer, holder, reads, attention[-1].module, feeds, feed[-1].module, tuple(n.module for n in norms))
    return block, bool(after)


def _built(parts: list[_Run], order: str) -> str:
    """Say what is unknown about a layer that runs these."""
    if re.fullmatch("NL+NNL+N", order):
        return "norms stand behind its products as well as in front of them"
    return f"a layer runs {_names(parts)}; wanted attention and a feed-forward, a norm behind or in front of each"


def _letter(module: Any, width: int) -> str:
    """Return L for a linear module, N for a norm of the states, nothing for one of heads and for tables, else X."""
    if isinstance(module, Linear):
        return "L"
    if isinstance(module, Embedding):
        return ""
    weight = getattr(module, "weight", None)
    if type(module).__name__.endswith("Norm") and isinstance(weight, Tensor) and weight.dim() == 1:
        return "N" if len(weight) == width else ""
    return "X"


def _check_sums(
    kind: str, after: bool, layer: _Run, attention: list[_Run], feed: list[_Run], norms: tuple[_Run, ...]
) -> None:
    """Raise ModelError unless a layer adds what attention and the feed-forward give to what it read."""
    middle = norms[0].gave if after else norms[0].read
    first = _adds(norms[0].read, layer.read, attention[-1].gave)
    second = _adds(norms[1].read if after else layer.gave, middle, feed[-1].gave)
    normed, reads = (norms[1].gave, layer.gave) if after else (norms[0].gave, feed[0].read)
    if not (first and second and isinstance(reads, Tensor) and normed.equal(reads)):
        raise ModelError(f"{kind}: its layers do not add to what they read; only whole layers can be left out")


def _adds(sum_: Any, read: Any, given: Any) -> bool:
    if not all(isinstance(states, Tensor) and states.shape == given.shape for states in (sum_, read, given)):
        return False
    return torch.allclose(sum_, read + given, rtol=1e-3, atol=1e-3)


def _reads(kind: str, attention: list[_Run], names: dict[Any, str]) -> tuple[Linear, ...]:
    """Return query, key and value, in this order, or the one product of all three."""
    reads = [run.module for run in attention[:-1] if run.read.data_ptr() == attention[0].read.data_ptr()]
    if len(reads) == 1 and reads[0].out_features == 3 * attention[-1].module.in_features:
        return (reads[0],)
    roles = {_role(names[module]): module for module in reads}
    if set(roles) != {"q", "k", "v"} or len(reads) != 3:
        named = [names[module] for module in reads]
        raise ModelError(
            f"{kind}: query, key and value cannot be told apart in {named}; only whole layers can be left out"
        )
    return tuple(roles[role] for role in "qkv")


def _role(name: str) -> str:
    found = re.match(r"(q|k|v)(uery|ey|alue)?(_|$)", name.rpartition(".")[2])
    return found.group(1) if found else name


def _feeds(kind: str, feed: list[_Run]) -> tuple[Linear, ...]:
    """Return what the feed-forward reads by: a row a neuron each, or both rows of a gated neuron in one product."""
    *feeds, down = [run.module for run in feed]
    neurons, rows = down.in_features, [module.out_features for module in feeds]
    alike = len({run.read.data_ptr() for run in feed[:-1]}) == 1
    if not alike or rows not in ([neurons], [neurons] * 2, [2 * neurons]):
        raise ModelError(f"{kind}: {neurons} neurons read by {rows} rows; wanted a row each, or two with a gate")
    return tuple(feeds)


def _check_neurons(kind: str, transformer: Any, block: Block, neurons: Tensor) -> None:
    """Raise ModelError unless the rows that are taken for those of the first neuron move it alone."""
    moved: list[Tensor] = []

    def move(feed: Any, inputs: Any, output: Tensor) -> Tensor:
        return output.index_add(
            -1, rows := block.feed_rows(feed, torch.tensor([0])), output.new_ones(*output.shape[:-1], len(rows))
        )

    hooks = [feed.register_forward_hook(move) for feed in block.feeds]
    hooks.append(block.down.register_forward_pre_hook(lambda module, inputs: moved.append(inputs[0])))
    _run(transformer, hooks)
    if (moved[0] != neurons)[..., 1:].any():
        raise ModelError(f"{kind}: the rows of a gated neuron are not a half apart; only whole layers can be left out")


def _ending(kind: str, behind: list[_Run], states: Tensor) -> Any:
    """Return the norm that reads what the last layer gives."""
    for run in behind:
        if type(run.module).__name__.endswith("Norm") and isinstance(run.read, Tensor) and run.read.equal(states):
            return run.module
    raise ModelError(f"{kind}: no norm follows its layers; only whole layers can be left out")


def _embedded(parts: Parts, transformer: Any, before: list[Any]) -> Parts:
    """Add what runs before the layers, and what of it keeps the states' width and the number of heads."""
    kind, config = parts.kind, transformer.config
    if _relative(config) or any(isinstance(m, Embedding) for block in parts.blocks for m in block.layer.modules()):
        reason = f"{kind}: its relative positions are as wide as its states"
        return replace(parts, relative=True, unnarrowed=reason, unheaded=reason)
    biases = _shared_biases(config, before)
    summed = before[: len(before) - len(biases)]
    widening = summed.pop() if summed and isinstance(summed[-1], Linear) else None
    *tables, norm = summed or [None]
    inner = parts.width if widening is None else widening.in_features
    plain = all(isinstance(table, Embedding) and table.embedding_dim == inner for table in tables)
    if not tables or not plain or not isinstance(norm, LayerNorm):
        reason = f"{kind}: its embeddings are no sum of tables with a LayerNorm behind it"
        return replace(parts, unnarrowed=reason, unheaded=reason)
    shared = f"{kind}: its layers share a bias a head" if biases else ""
    rotary = any("rotary" in type(module).__name__.lower() for module in transformer.modules())
    return replace(parts, tables=tables, norm=norm, widening=widening, biases=biases, rotary=rotary, unheaded=shared)


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


def _names(runs: list[_Run]) -> str:
    return " ".join(type(run.module).__name__ for run in runs)


def _head_size(transformer: Any, block: Block) -> int:
    names = ("attention_head_size", "head_dim", "key_value_proj_dim")
    stated = next((value for name in names if (value := getattr(block.attention, name, None))), None)
    return int(stated or transformer.config.hidden_size // transformer.config.num_attention_heads)
