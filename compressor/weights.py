"""What a safetensors file says of itself, read without loading a weight."""

import json
import re
import struct
from pathlib import Path
from typing import Any

from compressor.errors import ModelError

_HEADER_LIMIT_BYTES = 100_000_000  # the format's own bound
_LAYER = re.compile(r"(?:^|\.)(?:layer|layers|block|blocks|h)\.(\d+)\.")


def read_header(path: Path) -> dict[str, Any]:
    """Return the tensors' names, dtypes, shapes and offsets.

    Raises ModelError when the file is missing, is no safetensors file, or is shorter or longer than its
    header says (https://huggingface.co/docs/safetensors: 8 bytes of length, JSON, data).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_HEADER_LIMIT_BYTES, size - 8):
                raise ModelError(f"{path}: truncated or not safetensors (header of {length} bytes)")
            header = json.loads(file.read(length))
        end = max((int(entry["data_offsets"][1]) for n, entry in header.items() if n != "__metadata__"), default=0)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; weights must be safetensors") from error
    except (OSError, struct.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a safetensors file") from error
    if size != 8 + length + end:
        fault = "truncated" if size < 8 + length + end else "too long"
        raise ModelError(f"{path}: {fault}: {size} bytes, its header says {8 + length + end}")
    header.pop("__metadata__", None)
    return header


def layers_in(header: dict[str, Any]) -> int:
    """Count the transformer layers whose weights a header names; 0 if none is named as such."""
    found = {int(match[1]) for name in header if (match := _LAYER.search(name))}
    return len(found)
