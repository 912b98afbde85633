"""Work beside the one that hands it over: in order, bounded, and ended with it."""

import threading
import time
from collections.abc import Iterator

import pytest

from compressor.core.beside import Abandoned, beside


def test_all_arrives_in_order_and_little_waits() -> None:
    taken: list[int] = []
    given = 0

    def consume(items: Iterator[int]) -> None:
        for item in items:
            time.sleep(0.001)
            assert given - len(taken) <= 2 + 2  # waiting, and one in each hand
            taken.append(item)

    with beside(consume, 2) as give:
        for given in range(50):
            give(given)
    assert taken == list(range(50))


@pytest.mark.parametrize("after", [0, 3])
def test_a_fault_of_the_consumer_ends_the_body(after: int) -> None:
    def consume(items: Iterator[int]) -> None:
        for item in items:
            if item == after:
                raise ValueError("full")

    given = []

    def hand_over() -> None:
        with beside(consume, 2) as give:
            for item in range(1_000_000):
                give(item)
                given.append(item)

    with pytest.raises(ValueError, match="full"):
        hand_over()
    assert len(given) < 100
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("beside")]


def test_a_fault_at_the_last_item_is_raised_too() -> None:
    def consume(items: Iterator[int]) -> None:
        list(items)
        raise ValueError("at the end")

    with pytest.raises(ValueError, match="at the end"), beside(consume, 2) as give:
        give(1)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_a_fault_of_the_body_ends_the_consumer(error: BaseException) -> None:
    seen: list[BaseException] = []

    def consume(items: Iterator[int]) -> None:
        try:
            for _ in items:
                time.sleep(0.01)
        except BaseException as stopped:
            seen.append(stopped)
            raise

    def hand_over() -> None:
        with beside(consume, 2) as give:
            for item in range(3):
                give(item)
            raise error

    with pytest.raises(type(error)) as caught:
        hand_over()
    assert caught.value is error
    assert [type(stopped) for stopped in seen] == [Abandoned]
