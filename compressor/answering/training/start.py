"""What a student reader starts from: layers of its teacher, as they are or fitted to what the teacher computes."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from compressor.answering.questions.windows import Window, padded
from compressor.answering.readers.model import reads
from compressor.core.errors import ModelError, RecipeError
from compressor.distil.student.fit.encoder import fit_encoder
from compressor.distil.student.importance import Importance
from compressor.distil.student.layers import check_places, restack
from compressor.distil.student.parts import Parts
from compressor.distil.student.sample import MAX_TOKENS, Batch
from compressor.distil.student.structure import find_parts

Start = Literal["auto", "fitted", "copied"]
_BATCH = 16


def make_student(teacher: Any, kept: tuple[int, ...], start: Start, windows: Sequence[Window], seed: int) -> Any:
    """Return a question-answering model of the layers ``kept`` of ``teacher``, with its head.

    ``fitted``: by least squares on a sample of the windows each layer also makes up for those left out behind it
    (``compressor.distil.student.fit``). ``auto`` is fitted where the family's structure allows and the layers
    ascend. RecipeError as ``check_places`` raises it.
    """
    check_places(kept, teacher)
    student = copy.deepcopy(teacher)
    stack = restack(student, None)
    restack(student, [(i, stack[i]) for i in kept])
    parts = _fittable(teacher, kept, start)
    if parts is not None:
        importance = Importance(
            [torch.zeros(parts.heads(i)) for i in range(len(parts.blocks))],
            [torch.zeros(block.neurons) for block in parts.blocks],
        )
        fit_encoder(teacher.base_model, student.base_model, kept, importance, _sample(teacher, windows, seed))
    return student


def _fittable(teacher: Any, kept: tuple[int, ...], start: Start) -> Parts | None:
    ascending = list(kept) == sorted(kept)
    if start == "copied" or (start == "auto" and not ascending):
        return None
    if not ascending:
        raise RecipeError(f"distil.layers = {list(kept)}: must ascend for distil.start = 'fitted'")
    try:
        return find_parts(teacher.base_model)
    except ModelError:
        if start == "fitted":
            raise
        return None


def _sample(model: Any, windows: Sequence[Window], seed: int) -> list[Batch]:
    """Return windows chosen at random, MAX_TOKENS of them at most but for the last, in batches of like length."""
    order = np.random.default_rng(seed).permutation(len(windows))
    ends = np.cumsum([len(windows[int(i)].ids) for i in order])
    chosen = [int(i) for i in order[: 1 + int((ends <= MAX_TOKENS).sum())]]
    chosen.sort(key=lambda i: len(windows[i].ids))
    pad, names = int(model.config.pad_token_id or 0), reads(model.base_model)
    batches = []
    for first in range(0, len(chosen), _BATCH):
        rows = chosen[first : first + _BATCH]
        features = padded([windows[i] for i in rows], pad)
        batches.append(Batch(rows, {n: torch.from_numpy(ids) for n, ids in features.items() if n in names}))
    return batches
