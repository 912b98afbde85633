"""Parts that the generated Markdown pages share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from benchmarks.report.numbers import MISSING
from benchmarks.report.results import Row
from compressor.core import markdown

Source = Callable[[Row], str]
"""Says where figures come from, as ``source`` does."""


def page(template: Path) -> Template:
    """Open the template of a Markdown page."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Markdown
    )
    environment.filters["escaped"] = escaped
    return environment.get_template(template.name)


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
