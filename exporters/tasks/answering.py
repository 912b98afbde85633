"""Question answering: a question and its context in, an answer out."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from compressor.answering.questions.spans import Prediction
from compressor.answering.questions.squad import Question
from compressor.answering.questions.windows import padded
from compressor.answering.readers.reader import Reading, WindowReader
from compressor.artifact.layout import Kind
from compressor.core.errors import ModelError
from exporters.loading import open_reader_of
from exporters.runtime.names import with_cpu
from exporters.tasks.base import TORCH_CUDA, TORCH_CUDA_FP16, Item, Runner, Task, threads_of
from exporters.tasks.lengths import Pair, pairs_of_length, plain_tokenizer

if TYPE_CHECKING:
    from exporters.runtime.placed import Placed
    from exporters.serving import Served

_BLOCK = 512  # questions that are answered at a time where many are streamed


@dataclass(frozen=True)
class Answerer:
    """A reader in an encoder's place, for measuring: pairs of question and context in, answers out."""

    reader: WindowReader

    @property
    def max_length(self) -> int:
        return self.reader.cutter.max_length

    @property
    def threads(self) -> int:
        return threads_of(self.reader)

    @property
    def placed(self) -> "Placed | None":
        placed: Placed | None = getattr(self.reader, "placed", None)
        return placed

    def encode(self, texts: Sequence[Pair], batch_size: int = 32) -> list[Prediction]:
        """Answer every pair."""
        return self.reader.answer([question for question, _ in texts], [context for _, context in texts], batch_size)


class Answering(Task):
    """Find the answer to a question in its context."""

    name = "question-answering"
    unit = "questions"
    call = "PyTorch fp32"

    def open(self, folder: Path, kind: Kind, provider: str, threads: int | None, **options: Any) -> Answerer:
        """Open a reader; ``reading``: how it reads, as JSON, by default as it was made to."""
        stated = options.get("reading")
        reading = Reading.model_validate_json(stated) if stated else None
        if kind == "onnx":
            return Answerer(open_reader_of(folder, reading, threads, with_cpu(provider)))
        reader: Any = open_reader_of(folder, reading, threads)
        on_cuda, half = provider in (TORCH_CUDA, TORCH_CUDA_FP16), provider == TORCH_CUDA_FP16
        return Answerer(reader.on_cuda(half) if on_cuda else reader)

    def imports(self, kind: Kind) -> tuple[str, ...]:
        onnx = ("exporters.reader",)
        torch = ("compressor.answering.readers.torch_int8", "compressor.answering.readers.model")
        return onnx if kind == "onnx" else torch

    def check(self, runner: Runner, items: Sequence[Item], name: str) -> None:
        if not all(isfinite(answer.null_score) for answer in runner.encode(items)):
            raise ModelError(f"{name}: the scores of its answers are no numbers")

    def tokenizer(self, folder: Path) -> Tokenizer:
        return plain_tokenizer(folder / "tokenizer.json")

    def tokens(self, tokenizer: Tokenizer, items: Sequence[Item]) -> list[int]:
        pairs = [(question.strip(), context) for question, context in items]
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(pairs)]

    def of_length(
        self, tokenizer: Tokenizer, items: Sequence[Item], tokens: int, count: int | None = None
    ) -> list[Item]:
        return pairs_of_length(tokenizer, items, tokens, count)

    def feeds(self, runner: Any, items: Sequence[Item]) -> dict[str, Any]:
        asked = [Question(str(number), question, context) for number, (question, context) in enumerate(items)]
        return padded(runner.reader.cutter.cut(asked), runner.reader.pad)

    def stream(self, runner: Any, items: Iterable[Item], batch_size: int) -> Iterator[int]:
        source = iter(items)
        while block := list(itertools.islice(source, _BLOCK)):
            yield len(runner.encode(block, batch_size))

    def served(self, runner: Any) -> "Served | None":
        from exporters.reader import OnnxReader

        return runner.reader if isinstance(runner.reader, OnnxReader) else None
