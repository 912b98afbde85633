"""Parts that the generated Markdown pages share."""

from typing import Any

from benchmarks.report.numbers import MISSING
from benchmarks.report.results import Row
from compressor.core import markdown


def source(results: Row) -> str:
    """Say where figures come from: processor, versions, day and command."""
    environment = results.get("environment") or {}
    versions = environment.get("versions") or {}
    machine = [("cpu", "{}"), ("cores", "{} cores")]
    parts = [
        ", ".join(text.format(escaped(environment[key])) for key, text in machine if environment.get(key)),
        ", ".join(f"{name} {escaped(versions[name])}" for name in ("torch", "onnxruntime") if versions.get(name)),
        str(results.get("created") or "")[:10],
    ]
    command = str(results.get("command") or "")
    return "; ".join(part for part in [*parts, markdown.code(command) if command else ""] if part)


def escaped(value: Any) -> str:
    """Keep a name from opening a tag, a cell, code, a link or emphasis of its own."""
    return markdown.escaped(str(value or MISSING))
