"""The reference pages in docs/, made from the fields and the commands themselves."""

import json
import sys
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from pydantic import BaseModel

from compressor.answering.readers.reader import Reading
from compressor.cli.app import app
from compressor.cli.table import COMMANDS, GROUPS, HELP, Deferred, help_of
from compressor.flow.answering import ReaderRecipe
from compressor.flow.embedding import Recipe

PAGES = Path("docs")
_WIDTH = 80


_RECIPE = """# Recipes

A recipe is a TOML file; one recipe makes one model. Unknown keys are refused. The steps `distil`,
`multilingual`, `pca`, `quantize`, `fp16` and `search` run only where their section stands; a section left out
otherwise takes its defaults. Paths are relative to the recipe. `--set section.field=value` changes a field for one
run, `--set section.field=` and `--set section=` leave it out. Recipes for question answering have
[sections of their own](reader-recipe.md).
"""
_READER_RECIPE = """# Recipes for question answering

A recipe with `task = "question-answering"` makes one reader: a model that finds the answer to a question in a
text. It is a TOML file; unknown keys are refused, paths are relative to it, and `--set section.field=value`
changes a field for one run. The steps of `distil` run in their order, each from the student that the last one left;
`quantize` runs only where its section stands, `finetune` where it stands or the teacher is an encoder. The
fields of `reading` stand for all stages, but for what one of them states itself.
"""


def recipe_page(schema: type[BaseModel], head: str) -> str:
    """Return the page of all fields of a recipe."""
    lines = head.splitlines() + [""]
    shared = set(Reading.model_fields) if "reading" in schema.model_fields else set()
    for name, field in schema.model_fields.items():
        section, listed = _section(field.annotation)
        if section is None:
            lines += [f"`{name}`: {_line(field.description)}", ""]
            continue
        optional = ", optional" if field.default is None else ""
        heading = f"[[{name}]], one a step" if listed else f"[{name}]"
        lines += [f"## {heading}{optional}", "", _line(section.__doc__), ""]
        own = {n: f for n, f in section.model_fields.items() if name == "reading" or n not in shared}
        if own:
            lines += ["| field | default | meaning |", "|---|---|---|"]
            lines += [_row(field, described) for field, described in own.items()]
            lines.append("")
        if len(own) < len(section.model_fields):
            lines += ["And the fields of `reading`.", ""]
    return "\n".join(lines)


def _section(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the section that a field is, and whether there may be several of it."""
    kinds = [annotation, *get_args(annotation)]
    found = next((kind for kind in kinds if _is_model(kind)), None)
    return found, get_origin(annotation) is tuple


def stated_help() -> dict[str, Any]:
    """Return what the help of every command says, each from its function."""
    return {name: help_of(name, _parent()) for name in COMMANDS}


def commands_page(stated: dict[str, Any]) -> str:
    """Return the help of every command, as it is ``stated``, by what one wants to do."""
    lines = ["# Commands", "", "| | |", "|---|---|"]
    lines += [f"| {group} | {', '.join(f'[{name}](#{name})' for name in names)} |" for group, names in GROUPS.items()]
    for group, names in GROUPS.items():
        lines += ["", f"## {group}"]
        for name in names:
            shown = Deferred(name, stated[name]).shown(name, _parent())
            lines += ["", f"### {name}", "", "```text", shown.strip(), "```"]
    lines.append("")
    return "\n".join(lines)


def _parent() -> Any:
    group = typer.main.get_command(app)
    return group.make_context("compressor", [], resilient_parsing=True, terminal_width=_WIDTH)


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` say which are stale; return the exit status."""
    stale, stated = [], stated_help()
    pages = {
        PAGES / "recipe.md": recipe_page(Recipe, _RECIPE),
        PAGES / "reader-recipe.md": recipe_page(ReaderRecipe, _READER_RECIPE),
        PAGES / "commands.md": commands_page(stated),
        HELP: json.dumps(stated, indent=1, ensure_ascii=False) + "\n",
    }
    for path, text in pages.items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(str(path))
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
    if stale and "--check" in arguments:
        print(f"stale: {', '.join(stale)}; run make docs", file=sys.stderr)
        return 1
    return 0


def _row(name: str, field: Any) -> str:
    default = "required" if field.is_required() else f"`{_shown(field.default)}`"
    return f"| `{name}` | {default} | {_line(field.description)} |"


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("``", "`")


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return str(list(value)).replace("'", '"')
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
