"""The workers of a Ray cluster that a program has started on this machine."""

import subprocess
import time
from collections.abc import Callable

import psutil


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the processes that are actors of ours, on the cluster that process ``pid`` has started."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::_Worker"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(there: Callable[[], bool], program: "subprocess.Popen[str]", seconds: float = 300) -> None:
    """Wait until something is there; it fails where the program ends before."""
    deadline = time.monotonic() + seconds
    while not there():
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
