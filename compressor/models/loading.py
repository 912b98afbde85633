"""Weights as transformers puts them into a model: all there, of the shapes that the config says, and numbers."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from transformers import PreTrainedModel

from compressor.core.errors import ModelError

_POOLER = "pooler"  # of BERT's kin; no vector, no answer and no graph is computed from it
_lock = RLock()


@contextmanager
def whole_weights(folder: Path, new_head: bool = False) -> Iterator[None]:
    """Have ``from_pretrained`` of any model refuse, while within, weights that it would make up: ModelError.

    transformers only logs what it did not find, and fills it with random numbers. With ``new_head`` that may happen
    to what is not of the base model. A pooler that is not there is never missed.
    """
    with _lock:
        plain = PreTrainedModel.__dict__["from_pretrained"]

        def checked(cls: Any, *arguments: Any, **options: Any) -> Any:
            asked = options.pop("output_loading_info", False)
            model, info = plain.__func__(
                cls, *arguments, **options | {"output_loading_info": True, "ignore_mismatched_sizes": True}
            )
            _check_shapes(folder, model, info["mismatched_keys"])
            _check_missing(folder, model, info["missing_keys"], new_head)
            check_finite(folder, model.named_parameters())
            return (model, info) if asked else model

        _replace(classmethod(checked))  # sentence-transformers passes no loading info on
        try:
            yield
        finally:
            _replace(plain)


def _replace(method: Any) -> None:
    setattr(PreTrainedModel, "from_pretrained", method)  # noqa: B010 - a method, which mypy lets nobody assign


def _check_shapes(folder: Path, model: Any, mismatched: Iterable[Any]) -> None:
    for entry in sorted(mismatched):  # of transformers 5: name and both shapes
        name = entry if isinstance(entry, str) else entry[0]
        stored = "not of" if isinstance(entry, str) else f"{list(entry[1])}, not of"
        shape = list(model.state_dict()[name].shape)
        raise ModelError(f"{folder}: weights of {name} are {stored} the shape {shape} that config.json says")


def _check_missing(folder: Path, model: Any, missing: Iterable[str], new_head: bool) -> None:
    base = f"{model.base_model_prefix}."
    own = (name for name in missing if not new_head or name.startswith(base))
    if names := sorted(name for name in own if _POOLER not in name.split(".")):
        listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ModelError(f"{folder}: weights are missing: {listed}")


def check_finite(folder: Path, named: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Raise ModelError where a tensor, which it names, holds NaN or infinite numbers."""
    for name, values in named:
        if values.is_floating_point() and not bool(torch.isfinite(values).all()):
            raise ModelError(f"{folder}: weights of {name} hold NaN or infinite numbers")
