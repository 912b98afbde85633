"""The cache folder: what was computed once and is served again, written whole or not at all."""

import contextlib
import os
import shutil
import uuid
from pathlib import Path

import psutil


def cache_folder() -> Path:
    """Return where texts and vectors are kept: $COMPRESSOR_CACHE, else ~/.cache/compressor."""
    return Path(os.environ.get("COMPRESSOR_CACHE", "~/.cache/compressor")).expanduser()


def partial(to: Path) -> Path:
    """Return a name of this process's own, beside ``to``, to write under until one rename makes it ``to``."""
    return to.parent / f".{to.name}.partial-{uuid.uuid4().hex[:8]}-{os.getpid()}"


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder``; those of living ones stay."""
    for left in folder.glob(".*.partial-*"):
        owner = left.name.rpartition("-")[2]
        if not owner.isdigit() or psutil.pid_exists(int(owner)):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()
