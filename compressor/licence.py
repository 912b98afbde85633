"""The licence of a model, as the header of its card states it."""

import re
from importlib import import_module
from pathlib import Path

from compressor.strict_json import read_plain

_MOST_BYTES = 1 << 20
_HEADER = re.compile(r"---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


def licence_of(folder: Path) -> str | None:
    """Return the hub's name of the licence of the model in ``folder``, as apache-2.0; None where no card states one."""
    try:
        header = _HEADER.match(read_plain(folder / "README.md", _MOST_BYTES).decode("utf-8"))
        if not header or {"&", "*"} & set(header[1]):  # an anchor may stand for a text without end
            return None
        stated = import_module("yaml").safe_load(header[1])["license"]
    except Exception:  # a stranger's card: missing, no UTF-8, no YAML, no such field
        return None
    return stated if isinstance(stated, str) and _NAME.fullmatch(stated) else None
