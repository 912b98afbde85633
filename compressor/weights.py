"""What a safetensors file says of itself, read without loading a weight."""

import re
import struct
from math import prod
from pathlib import Path
from typing import Any

from compressor.errors import ModelError, unreadable
from compressor.strict_json import parse_json

_HEADER_LIMIT_BYTES = 100_000_000  # the format's own bound
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32}
_BITS |= {"U16": 16, "U8": 8, "BOOL": 8, "C64": 64, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4}
_BITS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6}
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
            header = parse_json(file.read(length))
        header.pop("__metadata__", None)
        end = _end(path, header)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file; weights must be safetensors") from error
    except PermissionError as error:
        raise ModelError(unreadable(path, error)) from error
    except (OSError, struct.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a safetensors file") from error
    if size != 8 + length + end:
        fault = "truncated" if size < 8 + length + end else "too long"
        raise ModelError(f"{path}: {fault}: {size} bytes, its header says {8 + length + end}")
    return header


def _end(path: Path, header: dict[str, Any]) -> int:
    """Return where the tensors end, which must lie one behind another, each as long as its shape says."""
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        (start, stop), shape, bits = entry["data_offsets"], entry["shape"], _BITS.get(entry["dtype"])
        whole = all(type(number) is int and number >= 0 for number in (start, stop, *shape))
        if bits is None or not whole or start != end or 8 * (stop - start) != bits * prod(shape):
            raise ModelError(f"{path}: tensor {name!a:.80}: its offsets, shape and dtype do not fit")
        end = stop
    return end


def layers_in(header: dict[str, Any]) -> int:
    """Count the transformer layers whose weights a header names; 0 if none is named as such."""
    found = {int(match[1]) for name in header if (match := _LAYER.search(name))}
    return len(found)
