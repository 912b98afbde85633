"""The reference pages in docs/, made from the fields and the commands themselves."""

import sys
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from typer.testing import CliRunner

from compressor.pipeline import Recipe

PAGES = Path("docs")


def recipe_page() -> str:
    """Return the page of all recipe fields."""
    lines = [
        "# Recipes",
        "",
        "A recipe is a TOML file; one recipe makes one model. Unknown keys are refused. The steps `distil`,",
        "`multilingual`, `pca` and `quantize` run only where their section stands; a section left out otherwise",
        "takes its defaults. Paths are relative to the recipe. `--set section.field=value` changes a field for one",
        "run.",
        "",
    ]
    for name, field in Recipe.model_fields.items():
        section = next((t for t in (field.annotation, *get_args(field.annotation)) if _is_model(t)), None)
        if section is None:
            lines += [f"`{name}`: {_line(field.description)}", ""]
            continue
        optional = ", optional" if field.default is None else ""
        lines += [f"## [{name}]{optional}", "", _line(section.__doc__), ""]
        if section.model_fields:
            lines += ["| field | default | meaning |", "|---|---|---|"]
            lines += [_row(field, described) for field, described in section.model_fields.items()]
            lines.append("")
    return "\n".join(lines)


def commands_page() -> str:
    """Return the help of every command."""
    from compressor.cli import app

    __import__("compressor.commands")
    lines = ["# Commands", ""]
    for name in sorted(typer.main.get_command(app).commands):  # type: ignore[attr-defined]
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "100"}, prog_name="compressor")
        lines += [f"## {name}", "", "```text", shown.stdout.strip(), "```", ""]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Write the pages, or with ``--check`` say which are stale; return the exit status."""
    stale = []
    for name, text in {"recipe.md": recipe_page(), "commands.md": commands_page()}.items():
        path = PAGES / name
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
    return f"| `{name}` | `{_shown(field.default)}` | {_line(field.description)} |"


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
