"""What a graph that others exported takes and gives, told by an open session: it has names of several exporters."""

from typing import Any

from compressor.artifact.layout import EMBEDDING, INPUTS
from compressor.untrusted.graph import Refusal, refusing, shown

TOKENS = (EMBEDDING[0], "token_embeddings")
"""What exporters call a vector a token; ``sentence_embedding`` is a vector a text."""
_NUMBERS = ("float32", "float16")


def run_foreign(session: Any, memory_bytes: int) -> dict[str, Any]:
    """Run two texts of four tokens; return the outputs that are read, by name, and the width of each.

    Refusal for other inputs than a text's ids, masks and types, for lengths that are fixed, and for a graph that gives
    neither a vector a token nor one a text.
    """
    import numpy as np

    _check_inputs(session)
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int64)
    feeds = {"input_ids": np.zeros_like(mask), "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
    names = read_outputs([value.name for value in session.get_outputs()])
    with refusing(memory_bytes):
        made = session.run(names, {value.name: feeds[value.name] for value in session.get_inputs()})
    for name, array in zip(names, made, strict=True):
        _check_output(name, array, np)
    widths = {name: int(array.shape[-1]) for name, array in zip(names, made, strict=True)}
    return {"dim": widths[names[-1]], "widths": widths}


def read_outputs(names: list[str]) -> list[str]:
    """Return which outputs are read: a vector a token, and one a text behind it; Refusal where there is neither."""
    of_tokens = next((name for name in TOKENS if name in names), None)
    read = [of_tokens, EMBEDDING[1] if EMBEDDING[1] in names else None]
    if not any(read):
        listed = ", ".join(map(shown, names[:6])) or "none"
        raise Refusal(f"outputs {listed}; must have {', '.join(TOKENS)} or {EMBEDDING[1]}")
    return [name for name in read if name is not None]


def _check_inputs(session: Any) -> None:
    inputs = {value.name: value for value in session.get_inputs()}
    if INPUTS[0] not in inputs or inputs.keys() - set(INPUTS):
        listed = ", ".join(map(shown, list(inputs)[:6])) or "none"
        raise Refusal(f"inputs {listed}; must be {INPUTS[0]}, and of {', '.join(INPUTS[1:])} what it reads")
    for name, value in inputs.items():
        free = len(value.shape) == 2 and not any(isinstance(dim, int) for dim in value.shape)
        if value.type != "tensor(int64)" or not free:
            raise Refusal(f"input {name}: {value.type} {value.shape}; must be int64 of any [batch, length]"[:240])


def _check_output(name: str, array: Any, np: Any) -> None:
    wanted = (2,) if name == EMBEDDING[1] else (2, 4)
    if array.dtype.name not in _NUMBERS or array.shape[:-1] != wanted or not array.shape[-1]:
        raise Refusal(f"output {name} comes as {array.dtype} {list(array.shape)}; must be floats {[*wanted, 'width']}")
    if not np.isfinite(array[:, :2] if name in TOKENS else array).all():
        raise Refusal(f"output {name} is not finite")
