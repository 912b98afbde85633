"""Names in Markdown: text of others, as it is and nothing more."""

import html
import re


def escaped(text: str) -> str:
    """Keep a name from opening a tag, a cell, code, a link or emphasis of its own."""
    return html.escape(re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(text.split())), quote=False)


def code(text: str) -> str:
    """Write text as code, whatever stands in it: a fence is longer than any run of backticks inside."""
    plain = " ".join(text.split())
    fence = "`" * (max(map(len, re.findall("`+", plain)), default=0) + 1)
    return f"{fence} {plain} {fence}" if "`" in plain else f"{fence}{plain}{fence}"
