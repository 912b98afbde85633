"""The cache folder: what was computed once and is served again, written whole or not at all."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from compressor.core.errors import storage
from compressor.core.files import partial, this_machine

_WEEK_SECONDS = 7 * 86_400
_KIND = re.compile(r"\.(?:partial|old)-")


def cache_folder() -> Path:
    """Return where texts and vectors are kept: $COMPRESSOR_CACHE, else ~/.cache/compressor."""
    return Path(os.environ.get("COMPRESSOR_CACHE", "~/.cache/compressor")).expanduser()


@contextlib.contextmanager
def keeping(to: Path, is_whole: Callable[[], bool]) -> Iterator[Path]:
    """Give a folder to fill, which becomes ``to`` in one rename; what is interrupted leaves nothing.

    ``is_whole`` tells whether ``to`` holds what it should: what is damaged there goes, and of two processes at once
    the first to end is kept. A full or read-only disk is a StorageError.
    """
    with storage(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(to.parent)
        draft = partial(to)
        draft.mkdir()
        try:
            yield draft
            _put(draft, to, is_whole)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _put(draft: Path, to: Path, is_whole: Callable[[], bool]) -> None:
    """Rename ``draft`` to ``to``, unless another process has put a whole one there meanwhile."""
    if to.exists() and not is_whole():
        os.rename(to, damaged := partial(to))
        shutil.rmtree(damaged, ignore_errors=True)
    try:
        os.rename(draft, to)
    except OSError:
        if not is_whole():
            raise


def remove_leftovers(folder: Path, alone: bool = False) -> None:
    """Remove what killed processes left half-written in ``folder``; those of living ones stay.

    Which of other machines' are alive nobody knows here: theirs stay for a week, unless nobody else is at work in the
    folder (``alone``).
    """
    for left in folder.glob(".*.partial-*"):
        if not alone and may_be_in_use(left):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                left.unlink()


def may_be_in_use(draft: Path) -> bool:
    """Tell of a name that ``partial`` gave whether its process may be alive."""
    tag, _, owner = _KIND.split(draft.name)[-1].rpartition("-")
    if len(tag) == 16 and not tag.endswith(this_machine()):
        with contextlib.suppress(OSError):
            return time.time() - draft.stat().st_mtime < _WEEK_SECONDS
    return not owner.isdigit() or psutil.pid_exists(int(owner))
