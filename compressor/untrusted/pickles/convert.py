"""Pickled weights made safetensors: each file is read in a process apart, which builds tensors and nothing else."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressor.core.errors import ModelError
from compressor.core.strict_json import read_json
from compressor.untrusted.settings import check_json
from compressor.untrusted.weights import INDEX, PICKLED, PICKLED_INDEX, WEIGHTS, read_header

_PROGRAM = Path(__file__).with_name("unpickle.py")
_KEPT = (".json", ".txt", ".model", ".safetensors", ".md")
_NOT_KEPT = frozenset({PICKLED_INDEX, "manifest.json"})
_CPU_SECONDS, _BYTES_A_SECOND = 120, 20 << 20


def convert(folder: Path, to: Path) -> list[str]:
    """Write the model in ``folder`` to ``to`` with every pickled weights file as safetensors; return what was made.

    Settings and tokenizer are copied, and nothing else of the folder. ModelError where there is nothing pickled, and
    for a file that holds anything but tensors.
    """
    made = list[str]()
    for part in _parts(folder):
        if not _has_safetensors(folder / part):
            made += _convert_part(folder / part, to / part, part)
    if not made:
        raise ModelError(f"{folder}: no {PICKLED} to convert")
    for part in (part for part in _parts(folder) if (folder / part).is_dir()):
        for path in sorted((folder / part).iterdir()):
            if path.is_file() and path.suffix in _KEPT and path.name not in _NOT_KEPT:
                (to / part).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, to / part / path.name)
    return made


def _parts(folder: Path) -> list[str]:
    """Return the folders of the modules within ``folder``, itself first."""
    if not (folder / "modules.json").is_file():
        return [""]
    return list(dict.fromkeys(["", *(entry["path"] for entry in check_json(folder / "modules.json"))]))


def _has_safetensors(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (WEIGHTS, INDEX))


def _convert_part(folder: Path, to: Path, part: str) -> Iterator[str]:
    """Convert one module's weights, a file or the shards of an index; yield the names of what was made."""
    if (folder / PICKLED).is_file():
        _convert_file(folder / PICKLED, to / WEIGHTS)
        yield str(Path(part) / WEIGHTS)
    elif (folder / PICKLED_INDEX).is_file():
        place = dict[str, str]()
        for name, stem in _shards(folder / PICKLED_INDEX).items():
            place |= dict.fromkeys(_convert_file(folder / name, to / f"{stem}.safetensors"), f"{stem}.safetensors")
            yield str(Path(part) / f"{stem}.safetensors")
        index = {"metadata": {}, "weight_map": place}
        (to / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(path: Path) -> dict[str, str]:
    """Return the files that an index names, each with the stem of its new name; ModelError for any but plain ones."""
    try:
        named = sorted(set(read_json(path)["weight_map"].values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not readable as an index of shards (weight_map)") from error
    for name in named:
        plain = isinstance(name, str) and name.startswith("pytorch_model") and name.endswith(".bin")
        if not plain or Path(name).name != name or not (path.parent / name).is_file():
            raise ModelError(f"{path}: shard {name!a:.80}: must be the name of a pytorch_model*.bin beside it")
    return {name: name.removesuffix(".bin").replace("pytorch_model", "model", 1) for name in named}


def _convert_file(path: Path, to: Path) -> list[str]:
    """Have one file converted; ModelError where it is refused. Return the names of its tensors."""
    to.parent.mkdir(parents=True, exist_ok=True)
    size = path.stat().st_size
    seconds = _CPU_SECONDS + size // _BYTES_A_SECOND
    request = {"path": str(path.absolute()), "to": str(to.absolute()), "size": size, "cpu_seconds": seconds}
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-B", str(_PROGRAM)],
            input=json.dumps(request) + "\n",
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=3 * seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise ModelError(f"{path}: not converted within {3 * seconds} s; refused") from error
    reply = _answer(path, run.stdout, run.returncode)
    if "refused" in reply:
        raise ModelError(f"{path}: {reply['refused']}")
    if read_header(to).keys() != set(reply["written"]):
        raise ModelError(f"{path}: what was written of it is not whole")
    return list(reply["written"])


def _answer(path: Path, text: str, status: int) -> Mapping[str, Any]:
    try:
        answer: Mapping[str, Any] = json.loads(text)
    except ValueError as error:
        raise ModelError(f"{path}: refused: the process that read it ended with status {status}") from error
    return answer
