"""Load time and peak memory of a system, each in a fresh process of its own."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.speed.figures import Footprint
from benchmarks.systems import System
from compressor.core.cores import usable_cores
from compressor.core.errors import CompressorError
from compressor.machine.threads import environment
from exporters.tasks.base import threads_of


def footprint(system: System, texts: Sequence[Any], batch_size: int = 32) -> Footprint:
    """Return what opening ``system`` and encoding ``texts`` costs; CompressorError, of one line, where it fails."""
    request = json.dumps({"texts": list(texts), "batch_size": batch_size, "system": system.as_json()})
    command = [sys.executable, "-P", "-W", "ignore", "-m", "benchmarks.speed.footprint"]
    done = subprocess.run(
        command, input=request, capture_output=True, text=True, check=False, env=as_users(system.threads)
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise CompressorError(f"{system.name}: cannot be measured in a process of its own: {reason}")
    return Footprint.read(json.loads(done.stdout.strip().splitlines()[-1]))


def as_users(threads: int | None) -> dict[str, str]:
    """Return the environment in which an artifact's users run it, on ``threads``; by default all usable cores."""
    return environment(threads or usable_cores())


def _measure(request: Mapping[str, Any]) -> Footprint:
    system = System(**json.loads(request["system"]))
    start = time.perf_counter()
    _import(system)
    imported = time.perf_counter()
    encoder = system.open()
    encoder.encode(request["texts"][:1], 1)
    loaded = time.perf_counter()
    encoder.encode(request["texts"], request["batch_size"])
    return Footprint(imported - start, loaded - imported, peak_bytes(), threads_of(encoder))


def _import(system: System) -> None:
    """Import what ``system`` runs on, so that the load is timed without it."""
    for name in system.imports():
        import_module(name)


def peak_bytes() -> int:
    """Return the peak of this process's resident set; on Linux not from getrusage, which starts from the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    print(json.dumps(_measure(json.load(sys.stdin)).as_dict()))
