"""The program: its options, its help, and how it ends."""

import os
import sys
import warnings
from importlib.metadata import version
from typing import Annotated

import typer

from compressor.cli.table import Commands
from compressor.core.errors import guarded
from compressor.machine.describe import HUGE_PAGES

app = typer.Typer(
    name="compressor",
    cls=Commands,
    help="Distil, reduce, quantize and export transformer encoders to ONNX Runtime, measured against their teacher.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"compressor {version('compressor')}")
        raise typer.Exit


@app.callback()
def options(
    shown: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of all commands."""


def main() -> None:
    """Run a command; what this project refuses is one line on stderr and exit status 1."""
    quiet_libraries()
    _one_voice()
    # Training frees and asks for a gradient of the whole vocabulary in each step: in huge pages, PyTorch's allocator
    # gets its memory from Linux in a tenth of the faults, and a step of one layer takes a tenth less time.
    os.environ.setdefault(HUGE_PAGES, "1")
    sys.exit(guarded(app))


def _one_voice() -> None:
    """Of several processes on one machine, as torchrun starts them, let the first alone show progress."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        from compressor.core.progress import console  # here: who shows nothing loads no rich

        console.quiet = True


def quiet_libraries() -> None:
    """Keep the libraries' bars and notes from the terminal: what matters to a user is said by this project."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.simplefilter("ignore")
    import logging

    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
