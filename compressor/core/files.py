"""Files written whole: under a name of their own beside their place, then moved there in one rename."""

import errno
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

from compressor.core.errors import StorageError, storage


def partial(to: Path, kind: Literal["partial", "old"] = "partial") -> Path:
    """Return a name that no other process or thread has, beside ``to``, to write under until a rename makes it ``to``.

    It ends with what this machine is called, hashed, and the number of this process, by which
    ``cache.may_be_in_use`` knows what is left of a killed one. ``old`` is what ``to`` was, put aside meanwhile.
    """
    return to.parent / f".{to.name}.{kind}-{uuid.uuid4().hex[:8]}{this_machine()}-{os.getpid()}"


@cache
def this_machine() -> str:
    """Return eight hexadecimal digits that other machines, which may write to the same storage, do not have."""
    return sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write a file under, which then becomes ``path``; on failure what was there stays, and no more.

    Whoever reads ``path`` meanwhile sees the old file or the new one. A full or read-only disk is a StorageError.
    """
    draft = partial(path)
    with storage(path):
        try:
            yield draft
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole; its folder is made where there is none."""
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def claim_file(path: Path) -> None:
    """Make the folder of a file to write, before the work that it is written after.

    StorageError where it names a folder, or where its folder may not be written.
    """
    with storage(path):
        if path.is_dir():
            raise StorageError(f"{path}: a folder; give a file to write")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK):
            raise StorageError(f"{path}: may not be written ({os.strerror(errno.EACCES)})")
