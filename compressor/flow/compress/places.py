"""How a recipe in a folder names what lies elsewhere, and itself."""

import os
import re
from pathlib import Path


def place_of(path: str, folder: Path) -> str:
    """Return ``path`` as it is seen from ``folder``; as it is where no way leads there, from another drive."""
    whole = os.path.abspath(os.path.expanduser(path))
    # Only what leads there is resolved: a link's own name says what kind of file it is.
    target = os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))
    try:
        return Path(os.path.relpath(target, os.path.realpath(folder))).as_posix()
    except ValueError:
        return Path(target).as_posix()


def model_place(model: str, folder: Path) -> str:
    """Return a model's folder as it is seen from ``folder``; a name on the hub as it is."""
    return place_of(model, folder) if Path(model).expanduser().is_dir() else model


def name_of(folder: Path) -> str:
    """Return what a run is called: the folder's name, in the letters that a name may have."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(os.path.abspath(folder)))
    return re.sub(r"^[^A-Za-z0-9]+", "", plain) or "compressed"
