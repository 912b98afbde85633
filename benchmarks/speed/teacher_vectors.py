"""The rate of teacher vectors against sentence-transformers' own ``encode`` in fp32, taking turns; prints JSON.

python -m benchmarks.speed.teacher_vectors 4096 --texts FILE
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.speed.throughput import SETTLE_SECONDS
from compressor.core.encoder import Vectors
from compressor.core.errors import CompressorError
from compressor.core.strict_json import JsonObject, json_text
from compressor.machine.describe import bf16_is_fast, describe
from compressor.models.agreement import cosines
from compressor.models.bulk import BulkEncoder
from compressor.models.sentence_model import ComputePrecision, TorchEncoder
from compressor.models.source import DEFAULT, find
from compressor.texts.corpus import Texts

_WAKE_TEXTS = 64


@dataclass(frozen=True)
class Compared:
    """Both ways to the teacher's vectors, on the same texts."""

    teacher: str
    source: str
    """Where the texts are from."""
    texts: int
    """In a round."""
    batch_size: int
    """Of ``encode``."""
    precision: ComputePrecision
    """Of ours."""
    encode_fp32: Sequence[float]
    """Texts a second in each round."""
    bulk: Sequence[float]
    cosine_min: float
    """The least cosine of a text's two vectors."""
    environment: Mapping[str, Any]

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it, with how many times as fast ours are in each round."""
        ratios = [own / base for own, base in zip(self.bulk, self.encode_fp32, strict=True)]
        return {
            "teacher": self.teacher,
            "source": self.source,
            "texts": self.texts,
            "batch_size": self.batch_size,
            "precision": self.precision,
            "texts_per_second": {"encode_fp32": list(self.encode_fp32), "bulk": list(self.bulk)},
            "ratios": ratios,
            "ratio": float(np.median(ratios)),
            "cosine_min": self.cosine_min,
            "environment": dict(self.environment),
        }


def compare(model: str, source: str | None, count: int, rounds: int, batch_size: int) -> Compared:
    """Return both rates in texts a second, their ratio in each round, and the least cosine of the vectors."""
    teacher, corpus = find(model), Texts(source=source).load()
    texts = list(corpus.train[:count])
    precision: ComputePrecision = "bf16" if bf16_is_fast() else "fp32"
    plain, bulk = TorchEncoder.load(teacher.folder), BulkEncoder.load(teacher.folder, precision)
    encode_fp32, own = list[float](), list[float]()
    for _ in range(rounds):
        theirs, rate = _timed(lambda some: plain.encode(some, batch_size), texts)
        encode_fp32.append(rate)
        ours, rate = _timed(bulk.encode, texts)
        own.append(rate)
    least = float(cosines(theirs, ours).min())
    return Compared(teacher.name, corpus.source, len(texts), batch_size, precision, encode_fp32, own, least, describe())


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
    print(json_text(figures.as_dict()))
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
