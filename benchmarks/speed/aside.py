"""Harnesses that measure each way in a process of its own, started by the harness's own name."""

import json
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

from benchmarks.speed.footprint import as_users
from compressor.core.errors import CompressorError
from compressor.core.signals import ending_at_sigterm
from compressor.core.strict_json import JsonObject, json_text

APART = "--apart"


def in_a_process(module: str, request: JsonObject, threads: int | None, failed: str, *flags: str) -> Any:
    """Return what ``module`` prints last for a request on its stdin, as JSON; CompressorError, ``failed``, or a fault.

    ``threads``: those of the process's environment; None: all usable cores.
    """
    command = [sys.executable, "-P", "-W", "ignore", "-m", module, *flags]
    environment, text = as_users(threads), json.dumps(request)
    done = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    if done.returncode:
        raise CompressorError(f"{failed}: exit status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def harness(
    arguments: list[str],
    parser: ArgumentParser,
    answer: Callable[[JsonObject], Any],
    measure: Callable[[Namespace], JsonObject],
) -> int:
    """Print the figures of a command line, or of one request, in a process apart; return the exit status."""
    try:
        if arguments == [APART]:
            print(json.dumps(answer(json.load(sys.stdin))))
            return 0
        given = parser.parse_args(arguments)
        with ending_at_sigterm():  # what runs apart ends with it
            figures = measure(given)
    except CompressorError as error:
        print(error, file=sys.stderr)
        return 1
    print(json_text(figures))
    return 0
