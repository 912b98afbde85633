"""Timings in turns: each rival against what is best so far, in the same second of the machine."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressor.core.encoder import length_sorted_batches
from exporters.precision.calibrate import Batch
from exporters.runtime.providers import CPU, open_session
from exporters.session import OnnxEncoder

Pass = Callable[[], float]
"""Runs all texts once and returns the seconds that it took."""
_SURELY_SLOWER = 0.97
_PASS_TOKENS = 512  # of a batch, where forms are compared
_LEAST_SECONDS = 0.25


@dataclass(frozen=True)
class Ratio:
    """How many times as fast as the base: the median of the turns, and its quartiles."""

    median: float
    low: float
    high: float
    turns: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def contest(base: Pass, rivals: Mapping[str, Pass], turns: int) -> dict[str, Ratio]:
    """Time every rival against ``base`` in turns; one that is surely slower after half of them is timed no further."""
    for run in (base, *rivals.values()):
        run()  # memory is asked for, and caches are filled
    ratios: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(turns):
        seconds = base()
        for name, run in rivals.items():
            if turn < turns // 2 or np.median(ratios[name]) >= _SURELY_SLOWER:
                ratios[name].append(seconds / run())
    return {name: _ratio(values) for name, values in ratios.items()}


def _ratio(values: Sequence[float]) -> Ratio:
    low, median, high = np.percentile(values, [25, 50, 75])
    return Ratio(float(median), float(low), float(high), len(values))


def graph_pass(folder: Path, texts: Sequence[str]) -> Pass:
    """Return a pass of one session on one thread, timed by the processor's own seconds: what else runs hardly counts.

    ``texts`` are cut into batches once, by like length and 512 tokens.
    """
    encoder = OnnxEncoder(folder, threads=1)
    session = open_session(folder, [CPU], 1)
    names = {value.name for value in session.get_inputs()}
    tokens = encoder.tokenize(texts)
    lengths = np.array([len(ids) for ids in tokens], np.int64)
    feeds: list[Batch] = []
    for rows in length_sorted_batches(lengths, len(texts), _PASS_TOKENS):
        ids, mask = encoder.pad([tokens[i] for i in rows])
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds.append({name: values for name, values in feed.items() if name in names})

    def run() -> float:
        start = time.thread_time()
        for feed in feeds:
            session.run(["sentence_embedding"], feed)
        return time.thread_time() - start

    return run


def encoder_pass(encoder: OnnxEncoder, texts: Sequence[str], batch_size: int) -> Pass:
    """Return a pass of the whole encoder, text in and vectors out, by the clock on the wall.

    ``texts`` are repeated until a pass lasts ``_LEAST_SECONDS``: how it starts and ends would outweigh the rest of it.
    """
    repeated = list(texts)

    def run() -> float:
        start = time.perf_counter()
        encoder.encode(repeated, batch_size)
        seconds = (time.perf_counter() - start) * len(texts) / len(repeated)
        if seconds * len(repeated) < _LEAST_SECONDS * len(texts):
            repeated[:] = list(texts) * math.ceil(_LEAST_SECONDS / seconds)
        return seconds

    return run
