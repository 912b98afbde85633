"""What a stage's code is: the modules of this project that its own imports, and the packages that those use.

Read from the sources alone, nothing is imported. What cannot change a result counts for nothing: comments,
docstrings, formatting, and the modules of LEFT_OUT.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from compressor.artifact.folder import key_of, versions

PROJECT = ("compressor", "exporters", "benchmarks")
LEFT_OUT = frozenset(PROJECT) | frozenset(  # the packages' own files switch reports off, and name what users import
    f"compressor.{name}"
    for name in (
        # They name, keep, write and check files.
        "artifact.folder", "core.cache", "core.files", "artifact.code", "artifact.manifest", "artifact.workspace",
        "core.strict_json",
        "core.errors", "core.progress",  # they tell of the work
        "untrusted.inspector",  # it refuses, in a process apart, and changes nothing of what it lets pass
        "core.config",  # it reads settings, whose values are in every key
        "machine.describe",  # what the machine is: what a stage decides by that is in its key (Config.decided_here)
    )
)  # fmt: skip
"""Modules that all stages stand on and that change no stage's result; what they import counts for nothing either."""

_DISTRIBUTIONS = {
    "google": "protobuf",
    "ort_flatbuffers_py": "onnxruntime",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Distributions that are not called as what is imported of them."""
_NO_MATTER = sys.stdlib_module_names | {
    "pydantic",
    "rich",
    "typer",
}  # these read settings, whose values are in every key, and print
_BRINGS = {"sentence_transformers": ("torch", "transformers"), "transformers": ("tokenizers", "safetensors")}
"""Packages that others compute with, imported here or not."""
_NAMES = re.compile(rf"""__file__|["'](?:{"|".join(PROJECT)})\.""")
"""What stands in a source that names modules or files outside its imports."""


@dataclass(frozen=True)
class Module:
    """What one source file says."""

    digest: str
    """Of its syntax tree and of the files beside it that it names."""
    modules: frozenset[str]
    """Modules of this project that it imports anywhere, also inside functions, or names to be run."""
    packages: frozenset[str]
    """The others' that it imports, by their first name."""


class Sources:
    """The source files of this project in the folders of its packages."""

    def __init__(self, packages: Mapping[str, Path]) -> None:
        self.packages, self._read = packages, dict[str, Module]()

    @classmethod
    def under(cls, root: Path) -> "Sources":
        """Return those of a checkout."""
        return cls({name: root / name for name in PROJECT})

    def key(self, *roots: str) -> Any:
        """Return what changes with the code of modules ``roots``, and with the packages that it uses; JSON values.

        Where there are no sources (a zipped or compiled install), this project's release stands for its code, and
        all packages that an artifact notes count.
        """
        python = ".".join(map(str, sys.version_info[:2]))
        if not all(map(self._path, roots)):
            return {"release": versions(), "roots": roots, "python": python}
        return {"modules": self.digests(*roots), "packages": self.used(self.closure(*roots)), "python": python}

    def digests(self, *roots: str) -> dict[str, str]:
        """Return the digest of each module in the closure of ``roots``."""
        return {name: self._module(name).digest for name in sorted(self.closure(*roots))}

    def closure(self, *roots: str) -> set[str]:
        """Return the names of ``roots`` and of all modules that they import, one through the other."""
        found, left = set[str](), list(roots)
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += self._module(name).modules - LEFT_OUT
        return found

    def used(self, modules: set[str]) -> dict[str, str | None]:
        """Return the versions of the packages that ``modules`` use; None for one that is not installed."""
        names, left = set[str](), [name for module in modules for name in self._module(module).packages]
        while left:
            name = left.pop()
            if name not in names:
                names.add(name)
                left += _BRINGS.get(name, ())
        return {name: _version(_DISTRIBUTIONS.get(name, name)) for name in sorted(names)}

    def _module(self, name: str) -> Module:
        if name not in self._read:
            path = self._path(name)
            assert path is not None
            self._read[name] = self._read_module(name, path)
        return self._read[name]

    def _path(self, name: str) -> Path | None:
        """Return the file of a module; None where it has none here."""
        package, *inner = name.split(".")
        if package not in self.packages:  # a stage of someone else's
            file = getattr(sys.modules.get(name), "__file__", None)
            paths = [Path(file)] if file else []
        else:
            whole = self.packages[package].joinpath(*inner)
            paths = [whole / "__init__.py", whole.parent / f"{whole.name}.py"]
        return next((path for path in paths if path.is_file() and path.suffix == ".py"), None)

    def _read_module(self, name: str, path: Path) -> Module:
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        for node in _statements(tree):
            if isinstance(body := getattr(node, "body", None), list):
                node.body = [statement for statement in body if not _changes_nothing(statement)]  # type: ignore[attr-defined]
        named, files = set[str](), list[Path]()
        for node in ast.walk(tree) if _NAMES.search(source) else _statements(tree):
            named.update(_named(node, package))
            if (file := _file_beside(node, path)) is None:
                pass
            elif file.suffix == ".py":  # a program to be run
                named.add(f"{package}.{file.stem}")
            else:
                files.append(file)
        firsts = {name.partition(".")[0] for name in named}
        digest = hashlib.sha256(ast.dump(tree, annotate_fields=False).encode())
        for file in _all_files(files):
            digest.update(file.name.encode() + file.read_bytes())
        modules = {name for name in named if name.partition(".")[0] in self.packages and self._path(name)}
        return Module(digest.hexdigest(), frozenset(modules), frozenset(firsts - self.packages.keys() - _NO_MATTER))


@cache
def installed() -> Sources:
    """Return the sources that this process runs on."""
    specs = {name: find_spec(name) for name in PROJECT}
    return Sources({name: Path(spec.origin).parent for name, spec in specs.items() if spec and spec.origin})


def code_key(*modules: str) -> str:
    """Hash the code of modules, that of all they import, and the versions of the packages that it uses."""
    return _code_key(installed(), modules)


@cache
def _code_key(sources: Sources, modules: tuple[str, ...]) -> str:
    return key_of(sources.key(*modules))


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield a tree and all statements in it: a fraction of its nodes, and all imports are among them."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, part, None)
            left += inner if isinstance(inner, list) else []


def _named(node: ast.AST, package: str) -> Iterator[str]:
    """Yield what may be modules: what an import names, and text that is spelt as one of this project."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.rsplit(".", node.level - 1)[0] if node.level else ""
        module = ".".join(filter(None, (above, node.module)))
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(PROJECT):
        first, _, rest = node.value.partition(".")
        if rest and first in PROJECT and rest.replace(".", "_").isidentifier():
            yield node.value


def _file_beside(node: ast.AST, path: Path) -> Path | None:
    """Return the file or folder that ``Path(__file__).with_name(x)`` or ``Path(__file__).parent / x`` names."""
    match node:
        case ast.Call(ast.Attribute(own, "with_name"), [ast.Constant(str(name))]) if _is_own_path(own):
            return path.with_name(name)
        case ast.BinOp(ast.Attribute(own, "parent"), ast.Div(), ast.Constant(str(name))) if _is_own_path(own):
            return path.parent / name
    return None


def _is_own_path(node: ast.AST) -> bool:
    return ast.unparse(node) == "Path(__file__)"


def _all_files(paths: list[Path]) -> list[Path]:
    below = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sorted(file for file in below if file.is_file() and "__pycache__" not in file.parts)


def _changes_nothing(node: ast.AST) -> bool:
    """Tell a docstring, or what is there for type checkers alone."""
    match node:
        case ast.Expr(ast.Constant(str())) | ast.If(ast.Name("TYPE_CHECKING"), orelse=[]):
            return True
    return False


@cache
def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
