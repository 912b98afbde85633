"""English prose from the docstrings of installed packages: texts for machines without the network.

Nothing is imported or run: source files are parsed, and their docstrings cut to sentences.
"""

import ast
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import chain, zip_longest
from pathlib import Path

FILES_PER_PACKAGE = 130
"""So many files of a package are read, spread over it: no package dominates or costs minutes."""

MAX_FILE_BYTES = 400_000
"""Longer files are tables and generated code."""

WORDS = range(4, 61)

_SKIPPED_FOLDER = re.compile(r"(site|dist)-packages|tests?|testing|_?vendor(ed)?|__pycache__|lib2to3|\..*")
_NO_PROSE = re.compile(r">>>|\.\.(\s|\[|$)|\.\.\.|[|+#$%@<>{}\[\]=~^\\]|---|\*\*\*|```|http|:\w+:$")
_EXAMPLE = re.compile(r"^[ \t]*>>>.*(?:\n[ \t]*\S.*)*|^[ \t]*```(?s:.*?)^[ \t]*```", re.M)
_LABEL = re.compile(
    r"(?:[-*+•]|\(?(?:\d+|[a-z])[.)])\s+"  # a list
    r"|[:@][a-z]+[^:]*:\s+"  # :param x: and @param x:
    r"|[`*\w]+ \(.{1,80}?\)\s?:\s+|[`*\w]+:\s+"  # x (int): and note:
)
_MARKUP = [
    (re.compile(r":[a-z:]+:`~?!?(?:[\w.]+\.)?([^`<]+?)(?:\s*<[^`]*>)?`"), r"\1"),
    (re.compile(r"`([^`<]+?)\s*<[^`]*>`_*"), r"\1"),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),
    (re.compile(r"\s?\[[\w#*]+\]_?"), ""),
    (re.compile(r"`+([^`]+)`+_*"), r"\1"),
    (re.compile(r"(?<!\w)(\*\*|\*)(?=\S)([^*]+?)\1(?!\w)"), r"\2"),
]
_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(]?[A-Z])|(?<=[.!?][\"')])\s+(?=[\"'(]?[A-Z])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|cf|al|Fig|Eq|Sec|Dr|Mr|Mrs|No|Vol|pp|approx|resp|[A-Z])\.$")
_SENTENCE = re.compile(r"[A-Z][A-Za-z0-9 ,;:!?.'\"()/%-]*[.!?][\"')]?")
_CODE = re.compile(
    r"[a-z][A-Z]|(?<=[a-z])(?<!\b[ei])\.[a-z]|\(\)|[A-Za-z]\d|\d[A-Za-z]|:\w|--|/\S*/|\.\.|\s[,.;:]|(?<=\s)/|/\s"
)
_FRAGMENT = re.compile(r"(If|When|Where|Unless)\b[^,]*\.|(Of|Or|And|In,|\w+:)\s.*|.*\b(e\.g|i\.e|etc|cf)\.")
_WORD = re.compile(r"[\"'(]*[A-Za-z][a-z'-]*[,;:.!?)\"']*")
_ENGLISH = re.compile(
    r"(?i:the|an?|is|are|be|was|were|of|to|in|on|for|with|by|from|as|at|this|that|these|which|its?|if|when"
    r"|not|or|and|can|may|will|should|must|has|have)"
)


def sentences(limit: int | None = None, roots: list[Path] | None = None) -> list[str]:
    """Collect distinct sentences of English prose, one file of each package in turn.

    ``roots`` are folders of packages; by default the standard library and the installed distributions.
    The same packages give the same sentences in the same order.
    """
    found: dict[str, None] = {}
    for path in files(roots):
        found.update(dict.fromkeys(s for text in _docstrings(path) for s in _prose(text)))
        if limit is not None and len(found) >= limit:
            break
    return list(found)[:limit]


def files(roots: list[Path] | None = None) -> list[Path]:
    """Return the files that ``sentences`` reads, in its order."""
    return list(_turns(_roots() if roots is None else roots))


def _roots() -> list[Path]:
    """Return the folders of the standard library and of this environment's packages."""
    named = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    added = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return [Path(folder) for folder in dict.fromkeys(named + sorted(added))]


def _turns(roots: list[Path]) -> Iterator[Path]:
    """Walk the files of all packages side by side: the first of each, the second of each, ..."""
    packages = [files for root in roots for files in _packages(root)]
    return (path for path in chain.from_iterable(zip_longest(*packages)) if path is not None)


def _packages(root: Path) -> Iterator[list[Path]]:
    """List the files of each package below ``root``; its lone modules count as one package."""
    try:
        entries = sorted(root.iterdir())
    except OSError:  # a root that is not there holds no package
        return
    yield _spread([entry for entry in entries if entry.suffix == ".py"])
    for entry in entries:
        if entry.is_dir() and not _SKIPPED_FOLDER.fullmatch(entry.name):
            yield _spread(sorted(_sources(entry)))


def _sources(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _SKIPPED_FOLDER.fullmatch(name)]
        yield from (Path(parent, name) for name in names if name.endswith(".py"))


def _spread(files: list[Path]) -> list[Path]:
    """Keep FILES_PER_PACKAGE files at even distances."""
    step = max(1.0, len(files) / FILES_PER_PACKAGE)
    return [files[int(i * step)] for i in range(min(len(files), FILES_PER_PACKAGE))]


def _docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a source file; none of one that cannot be read or parsed."""
    try:
        source = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else b""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's escapes and comparisons
            pending: list[ast.AST] = [ast.parse(source)]
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield inspect.cleandoc(ast.get_docstring(node, clean=False) or "")
            pending.extend(reversed(node.body))


def _prose(docstring: str) -> Iterator[str]:
    for paragraph in _paragraphs(_EXAMPLE.sub("", docstring)):
        yield from (sentence for sentence in _cut(_unmarked(paragraph)) if _reads_as_english(sentence))


def _paragraphs(docstring: str) -> Iterator[str]:
    """Join the lines that belong together; tables, directives and rules are left out."""
    lines: list[str] = []
    indent: int | None = None  # of the lines that go on; after a label the next line sets it
    for line in [*docstring.splitlines(), ""]:
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        label, dropped = _LABEL.match(text), _NO_PROSE.match(text)
        if not text or label or dropped or indent not in (None, depth):
            yield " ".join(lines)
            lines, indent = [], None
        if text and not dropped:
            lines.append(text[label.end() :] if label else text)
            indent = None if label else depth


def _unmarked(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _cut(text: str) -> Iterator[str]:
    """Cut a paragraph to sentences, not after abbreviations and initials."""
    start = 0
    for end in _END.finditer(text):
        if not _ABBREVIATION.search(text[start : end.start()]):
            yield text[start : end.start()]
            start = end.end()
    yield text[start:]


def _reads_as_english(text: str) -> bool:
    if not _SENTENCE.fullmatch(text) or _FRAGMENT.fullmatch(text) or _CODE.search(text):
        return False
    if text.count("(") != text.count(")") or text.count('"') % 2:
        return False
    words = text.split()
    plain = sum(_WORD.fullmatch(word) is not None for word in words)
    known = sum(_ENGLISH.fullmatch(word) is not None for word in words)
    return len(words) in WORDS and plain >= 0.85 * len(words) and known >= max(1, 0.12 * len(words))
