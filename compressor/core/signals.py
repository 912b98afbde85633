"""SIGTERM, as timeout(1), CI and service managers send it, ends a command as Ctrl-C does: every ``finally`` runs."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

TERMINATED = 128 + signal.SIGTERM
"""The exit status of a command that was told to end, as shells count it."""


@contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in the body, once; where somebody handles or ignores it already, that stays."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        _as_before()


def _end(number: int, _: Any) -> None:
    signal.signal(number, _pass_over)  # timeout(1) sends it twice, to the process and to its group
    raise SystemExit(TERMINATED)


def _pass_over(*_: Any) -> None:
    """Leave what is being tidied up alone."""


def _as_before() -> None:
    if signal.getsignal(signal.SIGTERM) in (_end, _pass_over):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_a_fork() -> None:
    """Let a forked child end at once: what its parent would tidy up is not its own."""
    with suppress(ValueError):
        _as_before()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_a_fork)
