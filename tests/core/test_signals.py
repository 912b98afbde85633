"""SIGTERM ends a command as Ctrl-C does, and nobody's own handler is taken away."""

import os
import signal

import pytest

from compressor.core.errors import guarded


def test_sigterm_is_one_line_and_its_handler_goes(capsys: pytest.CaptureFixture[str]) -> None:
    tidied = list[str]()

    def told() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)  # timeout(1) sends it twice
            tidied.append("all")

    assert guarded(told) == 143
    assert tidied == ["all"]
    assert capsys.readouterr().err == "stopped; the same command goes on from the last finished step\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_that_is_there_stays_and_a_fork_ends_as_before() -> None:
    seen, found = list[int](), list[object]()

    def forked() -> None:
        if not (child := os.fork()):
            os._exit(0 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else 1)
        found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert guarded(forked) == 0
    assert found == [0]
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        assert guarded(lambda: signal.raise_signal(signal.SIGTERM)) == 0
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
