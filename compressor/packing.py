"""The command that packs an artifact for one kind of consumer."""

from pathlib import Path
from typing import Annotated

import typer

from compressor.artifact import size_bytes
from compressor.cli import Out, app, out
from compressor.options import with_choice
from exporters.pack import TARGETS, Target
from exporters.pack import pack as write


@app.command()
@with_choice("target", "The kind of consumer.", TARGETS)
def pack(
    artifact: Annotated[Path, typer.Argument(help="An artifact folder with an ONNX graph.", metavar="ARTIFACT")],
    out_: Out,
    *,
    target: Target,
) -> None:
    """Write a view of an artifact for one kind of consumer; its files are checked by their hashes first."""
    write(artifact, target, out_)
    out.print(f"{out_}: {size_bytes(out_) / 1e6:.1f} MB", soft_wrap=True)
