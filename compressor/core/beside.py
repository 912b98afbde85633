"""Work on a thread of its own beside the one that hands it over: writing beside computing."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Full, Queue
from typing import Any, TypeVar

T = TypeVar("T")
_WAIT_SECONDS = 0.1
_END: Any = object()
_STOP: Any = object()


class Abandoned(Exception):
    """Raised where work waits for more, once there is none to come because who hands it over has failed."""


@contextmanager
def beside(consume: Callable[[Iterator[T]], None], most: int) -> Iterator[Callable[[T], None]]:
    """Run ``consume`` on a thread; the body gives it what it iterates over, in order, and waits while ``most`` wait.

    What ``consume`` raises is raised in the body where it gives the next, or at its end. Where the body fails,
    ``consume`` is ended by an Abandoned out of its iterator.
    """
    queue: Queue[T] = Queue(most)
    with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        working = pool.submit(consume, _taken(queue))

        def give(item: T) -> None:
            while True:
                try:
                    return queue.put(item, timeout=_WAIT_SECONDS)
                except Full:
                    if working.done():  # nothing is taken any more
                        return working.result()

        try:
            yield give
            give(_END)
        except BaseException:
            while not working.done():
                try:
                    queue.put(_STOP, timeout=_WAIT_SECONDS)
                    break
                except Full:
                    continue
            raise
        working.result()


def _taken(queue: "Queue[T]") -> Iterator[T]:
    while (item := queue.get()) is not _END:
        if item is _STOP:
            raise Abandoned
        yield item
