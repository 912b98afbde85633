"""Who does which piece: each those that follow each other, and in the end what is left of the others'."""

from collections import deque

from compressor.machine.cluster import Cluster, _Spread


def test_pieces_are_taken_in_order_and_others_from_their_end() -> None:
    spread = _Spread(None, Cluster("local", 2), None, [deque(range(3)), deque(range(3, 8))], lambda _: None)
    assert [spread._next(0) for _ in range(5)] == [0, 1, 2, 7, 6]
    assert [spread._next(1) for _ in range(4)] == [3, 4, 5, None]
    assert spread._next(0) is None
