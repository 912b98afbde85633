"""Ask a peer's process."""

from pathlib import Path
from typing import Any

from benchmarks.peers.process import Worker


def load(worker: Worker, teacher: Path, runner: str = "pytorch", **options: Any) -> dict[str, Any]:
    """Have a peer's process open ``teacher`` with a runner of its; return what that says of it."""
    given = {"teacher": str(teacher), "folder": None, "threads": 1}
    return worker.ask("load", runner=runner, **given, options=options)
