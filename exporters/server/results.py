"""From the futures of a batcher to the results of one request, which its client may stop waiting for."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

Receive = Callable[[], Awaitable[Any]]


class Gone(Exception):
    """A client that has left before its answer was there."""


async def results(futures: Sequence["Future[Any]"], receive: Receive) -> list[Any]:
    """Return what all futures give, in their order, or raise what the first of them raised.

    ``receive`` returns when the client has left: what no worker has begun is then not computed, and Gone is raised.
    The loop is woken once for a request, not once for a text.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    left, lock = len(futures), threading.Lock()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    def count_down(_: "Future[Any]") -> None:  # in a worker
        nonlocal left
        with lock:
            left -= 1
            last = left == 0
        if last:
            loop.call_soon_threadsafe(wake)

    for future in futures:
        future.add_done_callback(count_down)
    leaving = asyncio.ensure_future(receive())
    leaving.add_done_callback(lambda task: None if task.cancelled() else _cancel(futures))
    try:
        await done
        return [future.result() for future in futures]
    except CancelledError as error:
        raise Gone from error
    except asyncio.CancelledError:
        _cancel(futures)
        raise
    finally:
        leaving.cancel()


def _cancel(futures: Sequence["Future[Any]"]) -> None:
    for future in futures:
        future.cancel()
