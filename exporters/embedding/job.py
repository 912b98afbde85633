"""The work: a shard's texts in, its file out, the same bytes wherever it is done."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.artifact.folder import key_of
from compressor.core.beside import beside
from compressor.texts.rows.base import Block, RowFile
from compressor.texts.rows.plan import Cursor, Plan, Shard
from exporters.embedding.files import NpyFiles, Output, ParquetFiles
from exporters.embedding.options import Embedding
from exporters.embedding.rows import Columns, Rows, halved
from exporters.runtime.running import Running
from exporters.session import OnnxEncoder

_WAITING = 3  # pieces of some thousand rows that may wait to be written


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know; may be pickled."""

    artifact: Path
    artifact_key: str
    files: tuple[RowFile, ...]
    plan: Plan
    out: Path
    options: Embedding
    prompt: str
    columns: Columns
    running: Running
    threads: int | None

    def output(self) -> Output:
        """Open where the vectors go."""
        if self.options.to == "lance":
            from exporters.embedding.lance import LanceTable

            return LanceTable(self.out, self.columns)
        kind = NpyFiles if self.options.to == "npy" else ParquetFiles
        stated = self.options.model_dump(mode="json", exclude={"shard_rows"})
        return kind(self.out, self.columns, key_of(self.artifact_key, stated, self.prompt, self.running.as_dict()))


class Worker:
    """Computes shards; each begins a stream of its own, so that its vectors do not depend on those before it."""

    def __init__(self, job: Job, encoder: OnnxEncoder | None = None) -> None:
        self.job = job
        self._encoder = encoder or OnnxEncoder(job.artifact, threads=job.threads, running=job.running)
        self._cursor = Cursor(job.files)

    def rows(self, shard: Shard) -> Iterator[Rows]:
        """Yield a shard's rows, some thousand a time, in their order."""
        options = self.job.options
        named = _Named(self._cursor.read(shard), shard.first, options.with_text)
        vectors = self._encoder.stream(named, options.batch_size, options.computed, prompt=self.job.prompt)
        for block in vectors:
            ids, texts = named.take(len(block))
            yield Rows(halved(block) if options.precision == "float16" else block, self._ids(ids), texts)

    def _ids(self, ids: Sequence[str | int]) -> list[str] | NDArray[np.int64]:
        return np.array(ids, np.int64) if self.job.columns.whole_ids else [str(name) for name in ids]

    def write(self, shards: Iterable[Shard], output: Output, advance: Callable[[int], None] = lambda _: None) -> None:
        """Compute shards on this thread and write them on another; ``advance`` is told of rows that are written."""

        def written(items: Iterator[tuple[Shard, Rows]]) -> None:
            for shard, rows in items:
                output.write(shard, _whole(shard, rows, items, advance))

        with beside(written, _WAITING) as give:
            for shard in shards:
                for rows in self.rows(shard):
                    give((shard, rows))


def _whole(
    shard: Shard, rows: Rows, more: Iterator[tuple[Shard, Rows]], advance: Callable[[int], None]
) -> Iterator[Rows]:
    """Yield a shard's first rows, and ``more`` until it has all; tell of each once the next are asked for."""
    left = shard.rows
    while left:
        yield rows
        advance(len(rows))
        left -= len(rows)
        if left:
            _, rows = next(more)


class _Named:
    """Texts as they are asked for, with the ids of those that were not taken yet."""

    def __init__(self, blocks: Iterator[Block], first: int, with_text: bool) -> None:
        self._blocks, self._row, self._with_text = blocks, first, with_text
        self._ids: deque[str | int] = deque()
        self._texts: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            self._ids.extend(range(self._row, self._row + len(block)) if block.ids is None else block.ids)
            self._row += len(block)
            if self._with_text:
                self._texts.extend(block.texts)
            yield from block.texts

    def take(self, count: int) -> tuple[list[str | int], list[str] | None]:
        """Return the ids of the next rows, and their texts where they are written, too."""
        ids = [self._ids.popleft() for _ in range(count)]
        return ids, [self._texts.popleft() for _ in range(count)] if self._with_text else None
