"""The templates of model cards, and what writes names of others and figures into them."""

import json
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from compressor.core.markdown import code, escaped
from exporters.verify.check import Check

TEMPLATES = Path(__file__).parent / "templates"
CONSUMERS = TEMPLATES / "consumers.md"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")  # text that YAML takes for itself


@cache
def template(name: str) -> Template:
    """Open the template of a card."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - Markdown
    )
    environment.filters.update(code=code, yaml=_yaml, row=row, json=json.dumps)
    return environment.get_template(name)


def row(check: Check) -> str:
    """Write a check as a row of a Markdown table."""
    bar = "" if check.bar is None else f"{check.direction} {check.bar:g}"
    if check.off:
        bar = f"off ({bar})"
    return f"| {check.check} | {escaped(check.figure)} | {check.value:.6g} | {bar} |"


def _yaml(text: str) -> str:
    """Write text as a value in the card's header, quoted where YAML would read it otherwise."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
