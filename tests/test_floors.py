"""Imports run one way: a file imports its own folder or a lower floor, wherever in it the import stands."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = [
    ("compressor.core",),
    ("compressor.artifact", "compressor.machine"),
    ("compressor.untrusted", "compressor.texts"),
    ("compressor.models",),
    ("compressor.vectors",),
    ("compressor.distil",),
    ("compressor.answering",),
    ("exporters",),
    ("benchmarks",),
    ("compressor.flow",),
    ("compressor.cli",),
]
"""From the ground. What stands beside each other does not know each other."""
PUBLIC = {"compressor", "compressor.errors"}
"""Addresses for programs; nothing here imports them."""


def place(module: str) -> tuple[int, str] | None:
    """Return the floor and the package of a module; None for what is not of this project, or belongs to no floor."""
    for floor, packages in enumerate(FLOORS):
        for package in packages:
            if f"{module}.".startswith(f"{package}."):
                return floor, package
    return None


def imports(path: Path) -> Iterator[str]:
    """Name what a file imports; of ``from a import b``, both may be modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names if not node.level)  # else of its folder


def files() -> Iterator[tuple[str, Path]]:
    for top in ("compressor", "exporters", "benchmarks"):
        for path in sorted((ROOT / top).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def test_no_import_climbs() -> None:
    climbing = []
    for module, path in files():
        own = place(module)
        assert own is not None or module in PUBLIC, f"{module}: on no floor"
        for imported in imports(path) if own else ():
            other = place(imported)
            if other is not None and (other[0] > own[0] or (other[0] == own[0] and other[1] != own[1])):
                climbing.append(f"{module} imports {imported}")
    assert climbing == []


def test_a_climb_would_be_seen() -> None:
    floor, _ = place("compressor.core.errors") or (-1, "")
    assert floor == 0
    assert place("compressor.flow.base") > place("benchmarks.bench") > place("exporters.session")  # type: ignore[operator]
    found = {module: set(imports(path)) for module, path in files()}
    assert "exporters.session.OnnxEncoder" in found["exporters.tasks.embedding"]
    assert place("torch.nn") is None


def test_folders_stay_small_and_say_what_they_are() -> None:
    for top in ("compressor", "exporters", "benchmarks"):
        for folder in {path.parent for path in (ROOT / top).rglob("*.py")}:
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), folder
            assert len(list(folder.glob("*.py"))) <= 16, folder
