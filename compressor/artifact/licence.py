"""The licence of a model, as the header of its card states it."""

import re
from pathlib import Path

from compressor.core.strict_json import read_plain

_MOST_BYTES = 4 << 20  # a card with the results of a benchmark of many tasks is long
_HEADER = re.compile(r"---\n(.*?)\n---\n", re.DOTALL)
_STATED = re.compile(r"""^license:[ ]+(["']?)([a-z0-9][a-z0-9.-]{0,63})\1[ ]*(#.*)?$""", re.MULTILINE)


def licence_of(folder: Path) -> str | None:
    """Return the hub's name of the licence of the model in ``folder``, as apache-2.0; None where no card states one."""
    try:
        card = read_plain(folder / "README.md", _MOST_BYTES).decode("utf-8").replace("\r\n", "\n")
    except (OSError, ValueError):  # a stranger's card: not there, too long, no UTF-8
        return None
    header = _HEADER.match(card)
    stated = _STATED.search(header[1]) if header else None
    return stated[2] if stated else None
