"""The command that compresses a model without a recipe."""

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli.common import JsonOption, NamedArgument, QuestionsOption, SetOption, command_line, out, with_texts
from compressor.cli.options import with_options
from compressor.core.strict_json import json_text
from compressor.flow.compress.wish import Wish
from compressor.texts.corpus import TextSource


@with_options(wish=Wish)
@with_texts
def compress(
    model: NamedArgument,
    out_: Annotated[Path, typer.Option("--out", help="Folder of the run: artifacts, recipe.toml, report.html.")],
    texts: TextSource | None = None,
    questions: QuestionsOption = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: JsonOption = False,
    *,
    wish: Wish,
) -> None:
    """Compress a model without a recipe: choose one, say what it will do, and do it; goes on where it stopped."""
    from benchmarks.report.page import as_toml, print_table
    from compressor.flow.compress.plan import RECIPE
    from compressor.flow.compress.walk import compress_model

    made = compress_model(model, texts, out_, wish, command_line(), questions, set_ or (), dry_run)
    if as_json:
        print(json_text(made))
    elif dry_run:
        print(as_toml(made))
    else:
        print_table(made, out)
        artifact = out_ / "artifacts" / wish.precision
        out.print(f"artifact {artifact}   recipe {out_ / RECIPE}   report {out_ / 'report.html'}", soft_wrap=True)
