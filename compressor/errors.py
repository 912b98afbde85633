"""What can go wrong, as one tree; the command line prints any of these as one line and exits with 1.

CompressorError
├── RecipeError     a recipe or option: field, value, what is allowed
├── ModelError      a folder or name that holds no usable encoder
├── TextError       texts that cannot be read or are too few
├── ArtifactError   a folder that is occupied, damaged or incomplete
├── ProviderError   an execution provider or device that is not there
├── StorageError    no space left, no permission
└── GateError       a figure of ``verify`` below its bar
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


class StorageError(CompressorError):
    """A disk that is full or may not be written."""


class GateError(CompressorError):
    """A verified figure that misses its bar."""


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk under ``path`` into one StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{path}: no space left on the device") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise StorageError(f"{path}: may not be written ({error.strerror})") from error
        raise
