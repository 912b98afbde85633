"""Commands that look and change nothing: what this machine runs fast, and what is in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli.common import JsonOption, PoolingOption, out
from compressor.core.strict_json import json_text


def doctor(
    as_json: JsonOption = False,
    quick: Annotated[bool, typer.Option("--quick", help="Do not measure the machine's peak rates.")] = False,
) -> None:
    """Say what this machine can run fast, which precision to choose, and which to avoid and why."""
    from compressor.machine.doctor import print_doctor

    print_doctor(out, as_json, quick)


def inspect(
    path: Annotated[
        Path,
        typer.Argument(help="An artifact, a sentence-transformers folder, or an ONNX folder or file that others made."),
    ],
    pooling: PoolingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is in an artifact: size, inputs, outputs, operators, hashes, where it came from; of a graph that others
    exported its precision, what is fused, and whether a text's vector depends on its neighbours, too.
    """
    from benchmarks.inspect import facts, print_facts

    found = facts(path, pooling)
    print(json_text(found)) if as_json else print_facts(found, out)
