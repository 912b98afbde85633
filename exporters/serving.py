"""Texts or questions that arrive one at a time, from any number of threads, put together into batches as they wait."""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, NamedTuple, NoReturn, Protocol

from compressor.core.encoder import check_whole
from compressor.core.errors import BusyError, CompressorError
from exporters.runtime.forking import check_process
from exporters.runtime.prepared import Prepared
from exporters.runtime.providers import side_by_side

_MOST_TOKENS = 8192
_LOOKED_AT = 8  # batches' worth of waiting texts that a batch is chosen from
_PADDED = 0.25  # tokens of padding to one that is none
_OVERHEAD = 64  # tokens whose computing takes as long as beginning a batch


class Served(Protocol):
    """What a batcher serves: an ``OnnxEncoder``, or an ``OnnxReader``."""

    threads: int
    providers: list[str]
    batch_tokens: int | None
    """Tokens of a batch, padding included, that it computes fastest; None where it does not say."""

    def prepare(self, *item: Any, **options: Any) -> Prepared:
        """Return a text's tokens, or a question's windows; TextError for what is none."""
        ...

    def compute(self, prepared: Sequence[Prepared]) -> list[Any]:
        """Return the result of each item, all computed together on one thread."""
        ...


class _Worker(threading.Thread):
    """A thread that computes batches."""


class _Result(Future[Any]):
    """A vector or an answer to come, whose callbacks cannot end the worker that brings it."""

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        """Call ``fn`` when the result is there; in a worker whatever it raises is logged, as the library does it."""

        def guarded(result: Future[Any]) -> None:
            try:
                fn(result)
            except BaseException as error:
                if isinstance(error, Exception) or not isinstance(threading.current_thread(), _Worker):
                    raise
                raise RuntimeError(f"callback of a result raised {error!r}") from error

        super().add_done_callback(guarded)


class _Waiting(NamedTuple):
    prepared: Prepared
    result: _Result


class Batcher:
    """An OnnxEncoder that serves texts, or an OnnxReader that serves questions, as they come.

    ``submit`` returns at once with a ``concurrent.futures.Future`` of the text's vector, float32 [dim], or the
    question's ``Prediction``; ``asyncio.wrap_future`` makes it awaitable. A text that finds a worker idle starts at
    once and alone. While all are busy texts wait, and a worker that gets free takes of those that have waited longest
    its next batch: load makes the batches, no timer does. What is said of texts here is true of questions, too.

    - Order: a batch is the text that has waited longest, and of those behind it the ones of about its length, so that
      little of it is padding. Each future is of its own text, whoever shares its batch.
    - Errors: what cannot be tokenized raises in ``submit``. Where a batch fails, its texts are run again one by one, so
      that an error reaches the futures of the texts that cause it, and no other.
    - Callbacks of a future run in the worker that computed it, and hold up that worker alone: it outlives whatever they
      raise. They may submit, cancel and close.
    - Cancelling a future that still waits takes its text out of the queue.
    - Overload: beyond ``most_waiting`` texts ``submit`` raises BusyError and takes nothing in.
    - Shutdown: ``close``, or the end of a ``with`` block, takes no more texts, computes those that wait, and returns
      when the workers have ended; called by a callback, it returns at once. ``close(cancel=True)``, or an exception
      that leaves the block, cancels them.
    - Processes: a forked child has no workers and may not submit, and a batcher cannot be pickled; each process makes
      one of its own.
    """

    def __init__(
        self,
        encoder: Served,
        batch_size: int = 32,
        most_tokens: int | None = None,
        most_waiting: int = 10_000,
    ) -> None:
        """Start ``encoder.threads`` workers, one on a GPU; each computes a batch on one thread of its own.

        ``most_tokens``: a batch ends before its rows times its longest text exceed it; one text alone may, and a
        question with all of its windows. By default as the encoder cuts batches, and 8192 where it does not.
        """
        self._encoder, self._batch_size = encoder, check_whole("batch_size", batch_size)
        own = encoder.batch_tokens or _MOST_TOKENS
        self._most_tokens = own if most_tokens is None else check_whole("most_tokens", most_tokens)
        self._most_waiting, self._pid = check_whole("most_waiting", most_waiting), os.getpid()
        self._queue: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        count = encoder.threads if side_by_side(encoder.providers) else 1
        self._workers = [_Worker(target=self._work, name=f"batcher-{i}", daemon=True) for i in range(count)]
        for worker in self._workers:
            worker.start()

    def submit(self, *item: str, **options: str | None) -> "Future[Any]":
        """Queue one text, or of a reader a question and its context.

        ``options``: of an encoder, ``prompt_name`` or ``prompt``, chosen as ``OnnxEncoder.encode`` does it. TextError
        for what is no text, BusyError when too many wait, CompressorError once closed.
        """
        check_process("batcher", self._pid)
        return self.submit_prepared([self._encoder.prepare(*item, **options)])[0]

    def submit_prepared(self, prepared: Sequence[Prepared]) -> "list[Future[Any]]":
        """Queue items that the encoder or the reader has prepared, all of them or none; a future each, in their order.

        BusyError when too many would wait, CompressorError once closed.
        """
        check_process("batcher", self._pid)
        waiting = [_Waiting(item, _Result()) for item in prepared]
        with self._changed:
            if self._closed:
                raise CompressorError("batcher: closed; it takes no more texts")
            if len(self._queue) + len(waiting) > self._most_waiting:
                raise BusyError(f"batcher: {len(self._queue)} texts wait already; try again later")
            self._queue.extend(waiting)
            self._changed.notify(len(waiting))
        return [item.result for item in waiting]

    @property
    def waiting(self) -> int:
        """Texts that no worker has begun."""
        return len(self._queue)

    def close(self, cancel: bool = False) -> None:
        """Take no more texts and wait for the workers; ``cancel``: drop the texts that no worker has begun.

        May be called again, and from several threads. Does nothing in a forked child.
        """
        if self._pid != os.getpid():  # the lock may have been held, and the workers are not here
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        while cancel and (waiting := self._dropped()):
            try:
                waiting.result.cancel()  # not under the lock: it runs callbacks
            finally:
                waiting.result.set_running_or_notify_cancel()  # else ``wait`` would wait for it
        if threading.current_thread() not in self._workers:
            for worker in self._workers:
                worker.join()

    def _dropped(self) -> _Waiting | None:
        with self._changed:
            return self._queue.popleft() if self._queue else None

    def __reduce__(self) -> NoReturn:
        raise CompressorError("batcher: cannot be pickled, its workers are threads; make one in each process")

    def __enter__(self) -> "Batcher":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self.close(cancel=kind is not None)

    def _work(self) -> None:
        while batch := self._take():
            try:
                results = self._encoder.compute([waiting.prepared for waiting in batch])
            except BaseException:  # a worker outlives whatever a batch raises
                results = [self._alone(waiting) for waiting in batch]
            for waiting, result in zip(batch, results, strict=True):
                if isinstance(result, BaseException):
                    waiting.result.set_exception(result)
                else:
                    waiting.result.set_result(result)

    def _take(self) -> list[_Waiting]:
        """Wait for texts and return the next batch; an empty one at the end."""
        with self._changed:
            while not (batch := self._cut()) and not self._closed:
                self._changed.wait()
            return batch

    def _cut(self) -> list[_Waiting]:
        """Take the next batch: what has waited longest, and of what waits behind it what is about as long."""
        while self._queue:
            near = list(islice(self._queue, _LOOKED_AT * self._batch_size))
            taken = _alike([waiting.prepared for waiting in near], self._batch_size, self._most_tokens)
            for _ in near:
                self._queue.popleft()
            self._queue.extendleft(waiting for i, waiting in reversed(list(enumerate(near))) if i not in taken)
            batch = [near[i] for i in sorted(taken)]
            if running := [waiting for waiting in batch if waiting.result.set_running_or_notify_cancel()]:
                return running
        return []

    def _alone(self, waiting: _Waiting) -> Any:
        """Return an item's result, or what it raised."""
        try:
            [result] = self._encoder.compute([waiting.prepared])
        except BaseException as error:
            return error
        return result


def _alike(waiting: Sequence[Prepared], most: int, most_tokens: int) -> set[int]:
    """Return the numbers of the first item and of those that join it, up to ``most``, the nearest to it in length.

    Rows times the longest stay within ``most_tokens``, and padding within a quarter of what is none, beside the little
    that a batch costs by itself.
    """
    first = waiting[0]
    taken, rows, longest, tokens = {0}, first.rows, first.longest, first.rows * first.longest
    for i in sorted(range(1, len(waiting)), key=lambda i: abs(waiting[i].longest - first.longest)):
        if len(taken) == most:
            break
        own = waiting[i]
        room = (rows + own.rows) * max(longest, own.longest)
        kept = tokens + own.rows * own.longest
        if room <= min(most_tokens, (1 + _PADDED) * kept + _OVERHEAD):
            taken.add(i)
            rows, longest, tokens = rows + own.rows, max(longest, own.longest), kept
    return taken
