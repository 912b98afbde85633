"""The rate of teacher vectors against sentence-transformers' own ``encode`` in fp32, taking turns; prints JSON.

python -m benchmarks.speed.teacher_vectors 4096 --texts FILE
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.speed.throughput import SETTLE_SECONDS
from compressor.core.encoder import Vectors
from compressor.core.errors import CompressorError
from compressor.core.strict_json import json_text
from compressor.machine.describe import bf16_is_fast, describe
from compressor.models.agreement import cosines
from compressor.models.bulk import BulkEncoder
from compressor.models.sentence_model import ComputePrecision, TorchEncoder
from compressor.models.source import DEFAULT, find
from compressor.texts.corpus import Texts

_WAKE_TEXTS = 64


def compare(model: str, source: str | None, count: int, rounds: int, batch_size: int) -> dict[str, object]:
    """Return both rates in texts a second, their ratio in each round, and the least cosine of the vectors."""
    teacher, corpus = find(model), Texts(source=source).load()
    texts = list(corpus.train[:count])
    precision: ComputePrecision = "bf16" if bf16_is_fast() else "fp32"
    plain, bulk = TorchEncoder.load(teacher.folder), BulkEncoder.load(teacher.folder, precision)
    rates: dict[str, list[float]] = {"encode_fp32": [], "bulk": []}
    for _ in range(rounds):
        theirs, rate = _timed(lambda some: plain.encode(some, batch_size), texts)
        rates["encode_fp32"].append(rate)
        ours, rate = _timed(bulk.encode, texts)
        rates["bulk"].append(rate)
    ratios = [own / base for own, base in zip(rates["bulk"], rates["encode_fp32"], strict=True)]
    return {
        "teacher": teacher.name,
        "source": corpus.source,
        "texts": len(texts),
        "batch_size": batch_size,
        "precision": precision,
        "texts_per_second": rates,
        "ratios": ratios,
        "ratio": float(np.median(ratios)),
        "cosine_min": float(cosines(theirs, ours).min()),
        "environment": describe(),
    }


def main(arguments: list[str]) -> int:
    """Read the command line, print the figures; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.teacher_vectors", description=compare.__doc__)
    parser.add_argument("count", type=int, help="texts in a round")
    parser.add_argument("--texts", default=None, help="text file or data set; by default docstrings")
    parser.add_argument("--teacher", default=DEFAULT, help="the model: a folder or a name on the hub")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32, help="of sentence-transformers' encode")
    options = parser.parse_args(arguments)
    if min(options.count, options.rounds, options.batch_size) < 1:
        parser.error("count, --rounds and --batch-size must be at least 1")
    try:
        figures = compare(options.teacher, options.texts, options.count, options.rounds, options.batch_size)
    except CompressorError as error:
        print(error, file=sys.stderr)
        return 1
    print(json_text(figures))
    return 0


def _timed(encode: Callable[[list[str]], Vectors], texts: Sequence[str]) -> tuple[Vectors, float]:
    """Return the vectors and texts a second, once the other's threads have gone to sleep."""
    time.sleep(SETTLE_SECONDS)
    encode(list(texts[:_WAKE_TEXTS]))
    start = time.perf_counter()
    vectors = encode(list(texts))
    return vectors, len(texts) / (time.perf_counter() - start)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
