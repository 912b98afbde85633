"""How many cores a process may use: what it is bound to, and what its control groups grant it."""

import os
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Count the cores this process may run on, at most as many as its control groups grant whole: 2 of a quota of 2.5.

    Threads beyond a quota are stopped together once it is used up, so that more of them are slower.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    quota = cpu_quota(root)
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Return how many cores' time the tightest control group allows; None where none sets a limit."""
    quotas = [_quota(folder) for folder in control_groups("cpu", root)]
    return min((quota for quota in quotas if quota), default=None)


def control_groups(controller: str, root: Path) -> list[Path]:
    """List the folders of this process's control groups, from its own up to the root; version 1 and 2."""
    own = read_control(root / "proc/self/cgroup").splitlines()
    found: list[Path] = []
    for names, path in (line.split(":", 2)[1:] for line in own if line.count(":") >= 2):
        if names and controller not in names.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if names else "")
        inner = Path(path.strip("/"))
        found += [mount / part for part in (inner, *inner.parents)]
    return found


def _quota(folder: Path) -> float | None:
    """Read ``cpu.max`` (version 2) or the CFS pair (version 1)."""
    words = read_control(folder / "cpu.max").split() or [
        read_control(folder / "cpu.cfs_quota_us"),
        read_control(folder / "cpu.cfs_period_us"),
    ]
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return None  # "max", -1, or no such file
    return int(words[0]) / int(words[1])


def read_control(path: Path) -> str:
    """Return what a file of the system says; nothing where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
