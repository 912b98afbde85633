"""What a safetensors file says of itself, read without loading a weight."""

import re
import shlex
import struct
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

from compressor.core.errors import ModelError, unreadable
from compressor.core.strict_json import parse_json, read_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
_HEADER_LIMIT_BYTES = 100_000_000  # the format's own bound
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32}
_BITS |= {"U16": 16, "U8": 8, "BOOL": 8, "C64": 64, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4}
_BITS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6}
_SHARD = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)
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


def weights_in(folder: Path) -> list[Path]:
    """Return the safetensors files of a transformer's folder: one, or the shards that its index names, in order.

    Raises ModelError where there is none, or the index names a file that is not in the folder.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return [folder / name for name in sorted(set(_read_index(folder / INDEX).values()))]
    for name in (PICKLED, PICKLED_INDEX):
        if (folder / name).is_file():
            raise pickled(folder, name)
    raise ModelError(f"{folder / WEIGHTS}: no such file, and no {INDEX}; weights must be safetensors")


def pickled(folder: Path, name: str, model: Path | None = None) -> ModelError:
    """Return the error of a folder whose weights are pickled, in ``name``, with the line that converts the model."""
    line = f"compressor convert {shlex.quote(str(model or folder))} --out FOLDER"
    return ModelError(f"{folder}: weights are pickled ({name}); only safetensors is read, which {line} writes")


def read_headers(files: Sequence[Path]) -> dict[str, Any]:
    """Return what one file's or all shards' headers say of their tensors.

    Raises ModelError where a tensor comes twice, or the shards' index and the shards do not name the same.
    """
    found: dict[str, Any] = {}
    place: dict[str, str] = {}
    for file in files:
        header = read_header(file)
        if twice := sorted(header.keys() & found.keys()):
            raise ModelError(f"{file}: tensor {twice[0]!a:.80} is in {place[twice[0]]}, too")
        found |= header
        place |= dict.fromkeys(header, file.name)
    if files[0].name != WEIGHTS:
        index = _read_index(files[0].with_name(INDEX))
        if differing := sorted(set(index.items()) ^ set(place.items())):
            raise ModelError(f"{files[0].with_name(INDEX)}: tensor {differing[0][0]!a:.80} is not where it says")
    return found


def _read_index(path: Path) -> dict[str, str]:
    """Return the file name of each tensor; ModelError for an index that names none, or anything but plain shards."""
    try:
        index = read_json(path)
        named = index["weight_map"]
        files = set(named.values())
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not readable as an index of shards (weight_map)") from error
    for name in files:
        if not isinstance(name, str) or not _SHARD.fullmatch(name):
            raise ModelError(f"{path}: shard {name!a:.80}: must be the name of a safetensors file beside it")
        if not (path.parent / name).is_file():
            raise ModelError(f"{path.parent / name}: no such file; {INDEX} names it")
    if not files:
        raise ModelError(f"{path}: names no shards")
    if not isinstance(index.get("metadata"), dict):
        raise ModelError(f"{path}: no metadata, which transformers reads of it")
    return dict(named)


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


def stored_in(header: dict[str, Any]) -> str:
    """Name the precision that most of the numbers are stored in, as this project writes it: bf16."""
    counts: dict[str, int] = {}
    for entry in header.values():
        counts[entry["dtype"]] = counts.get(entry["dtype"], 0) + prod(entry["shape"])
    kind = max(counts, key=lambda kind: counts[kind], default="F32")
    return f"fp{kind[1:]}" if kind in ("F64", "F32", "F16") else kind.lower()


def fp32_bytes(header: dict[str, Any]) -> int:
    """Return how many bytes the numbers take in fp32, whatever they are stored in."""
    return 4 * sum(prod(entry["shape"]) for entry in header.values())


def layers_in(header: dict[str, Any]) -> int:
    """Count the transformer layers whose weights a header names; 0 if none is named as such."""
    found = {int(match[1]) for name in header if (match := _LAYER.search(name))}
    return len(found)
