"""What can go wrong, as one tree; the command line prints any of these as one line and exits with 1.

CompressorError
├── RecipeError     a recipe or option: field, value, what is allowed
├── ModelError      a folder or name that holds no usable encoder
├── TextError       texts that cannot be read or are too few
├── ArtifactError   a folder that is occupied, damaged or incomplete
├── ProviderError   an execution provider or device that is not there
├── DependencyError an optional package that is not installed
├── StorageError    no space left, no permission
├── BusyError       a server with too many texts waiting
├── HubError        a hub that does not take an artifact, or is not reached
├── PeerError       a peer of the benchmark that cannot be set up or run
└── GateError       a figure of ``verify`` below its bar
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


class CompressorError(Exception):
    """Anything this project refuses, worded for the person who ran the command."""


class RecipeError(CompressorError):
    """A field of a recipe, or an option, with a value that is not allowed."""


class ModelError(CompressorError):
    """A folder or hub name that holds no usable encoder."""


class TextError(CompressorError):
    """Texts that cannot be read, decoded, or are too few."""


class ArtifactError(CompressorError):
    """A folder that is occupied, damaged or incomplete."""


class ProviderError(CompressorError):
    """An execution provider or a device that this machine does not have."""


class DependencyError(CompressorError):
    """An optional package that is not installed; the message says how to get it."""


class StorageError(CompressorError):
    """A disk that is full or may not be written."""


class BusyError(CompressorError):
    """A server that has as many texts waiting as it takes; the same text may be sent again later."""


class HubError(CompressorError):
    """A hub that does not take an artifact, is not reached, or may not be asked."""


class PeerError(CompressorError):
    """A peer of the benchmark that cannot be set up or run here; its row says so, and the run goes on."""


class GateError(CompressorError):
    """A verified figure that misses its bar."""


def first_line(error: BaseException) -> str:
    """Return what a library's error says, in one line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def one_line(error: BaseException, most: int = 300) -> str:
    """Return all lines of what a library's error says as one of ``most`` characters; its kind where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def unreadable(path: Path, error: OSError) -> str:
    """Return one line for a file or folder that the system does not let this user read."""
    return f"{path}: cannot be read ({error.strerror or first_line(error)})"


def installed(module: str, package: str, extra: str) -> Any:
    """Return an optional module; DependencyError, with the extra that brings its package, where it is not there."""
    try:
        return import_module(module)
    except ImportError as error:
        raise DependencyError(f"{package}: not installed; pip install 'compressor[{extra}]'") from error


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk under ``path``, or a file where a folder belongs or the other way
    round, into one StorageError."""
    try:
        yield
    except CompressorError:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if _is_full(error, code, path):
            raise StorageError(f"{path}: no space left on the device") from error
        if code == errno.EFBIG or os.strerror(errno.EFBIG) in str(error):
            raise StorageError(f"{path}: a file is larger than its file system or the user's limit allows") from error
        if code in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StorageError(f"{path}: may not be written ({os.strerror(code)})") from error
        if code in (errno.ENOTDIR, errno.EEXIST):
            raise StorageError(f"{path}: cannot be made, a file is in the way") from error
        if code == errno.EISDIR and _names(error, path):
            raise StorageError(f"{path}: a folder; give a file to write") from error
        if code == errno.ENOENT and not path.parent.is_dir():
            raise StorageError(f"{path}: its folder is not there") from error
        raise


def _names(error: Exception, path: Path) -> bool:
    """Whether an error of the system is of ``path`` itself, and not of another file met on the way."""
    return str(path) in map(str, (getattr(error, "filename", None), getattr(error, "filename2", None)))


def _is_full(error: Exception, code: int | None, path: Path) -> bool:
    if code is not None:
        return code in (errno.ENOSPC, errno.EDQUOT)
    # safetensors (Rust) repeats the system's words; torch.save (C++) and numpy do not even say that much.
    return os.strerror(errno.ENOSPC) in str(error) or _free_bytes(path) < 1 << 16


def _free_bytes(path: Path) -> int:
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(existing).free


INSTALL = "what makes and measures artifacts comes with: pip install 'compressor[train]'"


def guarded(command: Callable[[], Any]) -> int:
    """Run ``command`` and return its exit status: 0, 1 for a CompressorError, 130 for Ctrl-C, 143 for SIGTERM."""
    from rich.text import Text

    from compressor.core.progress import plain_console  # here: who only encodes loads no rich
    from compressor.core.signals import TERMINATED, ending_at_sigterm

    errors = plain_console(stderr=True)
    try:
        with ending_at_sigterm():
            command()
    except (CompressorError, PermissionError) as error:
        # The system's own error: a file or folder of another user's, wherever it was met.
        message = f"{error.filename}: {error.strerror}" if isinstance(error, PermissionError) else str(error)
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))
        errors.print(Text.assemble(("error:", "red"), f" {line}"), soft_wrap=True)
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("compressor", "exporters", "benchmarks"):
            raise
        errors.print(Text.assemble(("error:", "red"), f" {error.name} is not installed; {INSTALL}"), soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        status = 130
    except SystemExit as leaving:  # how Typer ends every command, 130 after Ctrl-C; or SIGTERM
        status = leaving.code if isinstance(leaving.code, int) else 0
    else:
        status = 0
    if status in (130, TERMINATED):
        errors.print("stopped; the same command goes on from the last finished step")
    return status
