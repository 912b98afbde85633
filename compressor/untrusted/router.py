"""A Router of sentence-transformers, as ``pack`` writes it: which modules it opens for queries and for documents."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor.core.errors import ModelError, unreadable
from compressor.core.strict_json import read_json
from compressor.untrusted.loaders import MODULES, check_modules

LISTS = ("modules.json", "router_config.json")
"""The files of such a folder that name the classes to open."""
WHOLE: list[dict[str, Any]] = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}]
"""Its module list."""
ROUTES = ("query", "document")
PARAMETERS: Mapping[str, Any] = {"default_route": "document", "allow_empty_key": True}


def check_router(folder: Path) -> int:
    """Return how many lists of modules were read; ModelError for any that ``pack`` does not write.

    The modules are of classes that are opened elsewhere, too, each in the folder of its route, place and class, and the
    first of a route, and no other, reads text.
    """
    modules, config = (folder / name for name in LISTS)
    if _read(modules) != WHOLE:
        raise ModelError(f"{modules}: must name one Router, and nothing else; code is never run")
    stated = _read(config)
    if not isinstance(stated, dict) or stated.keys() != {"types", "structure", "parameters"}:
        raise ModelError(f"{config}: must state types, structure and parameters, and nothing else")
    types, structure = stated["types"], stated["structure"]
    if not isinstance(structure, dict) or tuple(structure) != ROUTES or stated["parameters"] != PARAMETERS:
        raise ModelError(f"{config}: must have the routes {' and '.join(ROUTES)}, documents by default")
    named = [name for route in ROUTES for name in _route(config, route, structure[route], types)]
    if sorted(named) != sorted(types):
        raise ModelError(f"{config}: types: must be of the modules of its routes, and of no others")
    return len(LISTS)


def _route(path: Path, route: str, names: Any, types: Any) -> list[str]:
    """Return the names of a route's modules; ModelError for a class that is not opened, at its place."""
    if not isinstance(names, list) or not isinstance(types, dict) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"{path}: not readable as the modules of a Router")
    check_modules(path, [{"name": name, "path": name, "type": types.get(name)} for name in names])
    for index, name in enumerate(names):
        if name != (own := f"{route}_{index}_{MODULES[types[name]]}"):
            raise ModelError(f"{path}: module {name!a:.80} of the route {route}: must be {own}")
    return names


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except OSError as error:
        raise ModelError(unreadable(path, error)) from error
    except ValueError as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from error
