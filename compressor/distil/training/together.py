"""Several processes that train one student: what all must have before them, and what is counted over all."""

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from compressor.artifact.workspace import Keyed
from compressor.core.cache import cache_folder
from compressor.core.errors import CompressorError, RecipeError, one_line, storage
from compressor.machine.processes import rank, world
from compressor.models.teacher_vectors import training_precision

_LETTERS = 32  # of a value that is compared
_COME_WITHIN = timedelta(minutes=30)


def check_together(teacher: Keyed, corpus: Keyed, key: str, checkpoints: Path) -> None:
    """Meet the other processes before any long work, and hold what this one has before it against theirs.

    RecipeError, of all processes, for another teacher, other texts, vectors of another precision, another ``key`` of
    the training, another cache, or other ``checkpoints``. A process that trains alone meets nobody.
    """
    if world() == 1:
        return
    meet()
    same = {
        "teacher": teacher.key,
        "texts": corpus.key,
        "precision of the teacher's vectors": training_precision(),
        "settings, code, packages or arithmetic": key,
    }
    with connected():
        _compare(same)
        for folder in (cache_folder(), checkpoints.parent):
            _look_for(folder)


def meet() -> None:
    """Connect with the other processes, unless that is done.

    RecipeError where nothing says where they are, CompressorError where not all come within half an hour.
    """
    if world() == 1 or distributed.is_initialized():
        return
    try:
        distributed.init_process_group(timeout=_COME_WITHIN)
    except ValueError as error:
        raise RecipeError(
            f"environment variable WORLD_SIZE = {world()}: start the processes with torchrun: {one_line(error)}"
        ) from error
    except RuntimeError as error:
        raise CompressorError(
            f"rank {rank()}: not all of {world()} processes came in {_COME_WITHIN.total_seconds():g} s: "
            f"{one_line(error, 120)}"
        ) from error


@contextmanager
def connected() -> Iterator[None]:
    """Turn the loss of another process into one CompressorError."""
    try:
        yield
    except RuntimeError as error:
        if world() == 1 or not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        said = re.sub(r"\[\S*\.cc:\d+\] ", "", one_line(error))  # where in PyTorch's own source
        raise CompressorError(
            f"rank {rank()}: another process of this training was lost; the same command, for all processes, goes on "
            f"from the last checkpoint ({said:.120})"
        ) from error


def summed(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the sum of all processes' ``counts``, int64 [n] of each."""
    if world() == 1:
        return counts
    total = torch.from_numpy(counts.copy())
    with connected():
        distributed.all_reduce(total)
    return total.numpy()


def _compare(same: Mapping[str, str]) -> None:
    """Raise RecipeError for the first of these values, by what they are of, that another process has not."""
    for name, row in zip(same, np.swapaxes(_gathered(list(same.values())), 0, 1), strict=True):
        values = [bytes(value).decode() for value in row]
        for other, value in enumerate(values):
            if value != values[0]:
                first, second = (text.rstrip("\0") for text in (values[0], value))
                raise RecipeError(f"distil: {name}: {first:.12} for the process of rank 0, {second:.12} for that of "
                                  f"rank {other}; all must have the same")  # fmt: skip


def _look_for(folder: Path) -> None:
    """Raise RecipeError where ``folder`` is another one for another process: the first leaves a mark in it."""
    [[token], *_] = _gathered([secrets.token_hex(8)])
    mark = folder / f".together-{bytes(token).decode().rstrip(chr(0))}"
    try:
        if not rank():
            with storage(folder):
                folder.mkdir(parents=True, exist_ok=True)
                mark.touch()
        _gathered([""])  # from here on it is there
        seen = _gathered([str(int(mark.is_file()))])
    finally:
        if not rank():
            with suppress(OSError):
                mark.unlink(missing_ok=True)
    for other, [value] in enumerate(seen):
        if not value[0] == ord("1"):
            raise RecipeError(
                f"{folder}: not the same folder for the processes of rank 0 and rank {other}; all must see the same"
            )


def _gathered(values: Sequence[str]) -> NDArray[np.uint8]:
    """Return the first letters of all processes' ``values``, uint8 [processes, values, letters], zeros behind them."""
    own = np.zeros((len(values), _LETTERS), np.uint8)
    for row, value in zip(own, values, strict=True):
        encoded = np.frombuffer(value.encode()[:_LETTERS], np.uint8)
        row[: len(encoded)] = encoded
    rows = [torch.zeros(own.shape, dtype=torch.uint8) for _ in range(world())]
    distributed.all_gather(rows, torch.from_numpy(own))
    return torch.stack(rows).numpy()
