"""The benchmark on a card, step by step: prepare, join, run; all of them in one, and a rehearsal without a card.

``join`` and ``run`` need no network, and of this project a copy of its repository. What each step needs is imported
there: ``join`` brings some of it.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cuda import wheels
from compressor.core.errors import ArtifactError, RecipeError, guarded

_JOINED, _SITE, _RESULTS, _REHEARSED = "joined", "site", "results.json", "rehearsal.json"


def main(arguments: list[str] | None = None) -> int:
    """Measure on an NVIDIA card what PyTorch and ONNX Runtime make of a teacher and its students."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    step: Callable[[argparse.Namespace, list[str]], None] = options.step
    return guarded(lambda: step(options, given))


def prepare(options: argparse.Namespace, given: list[str]) -> None:
    """Make graphs, texts and wheels, in parts that can be carried to the card; with a network, without a card."""
    from benchmarks.cuda.prepare import Prepare

    Prepare.read(_fields(options) | {"python": options.python}).run(options.out)


def join(options: argparse.Namespace, given: list[str]) -> None:
    """Check the parts, put them together and install the wheels; without a network."""
    from benchmarks.cuda.pack import unpack

    folder: Path = options.folder
    index = unpack(folder / "parts", folder / _JOINED)
    carried = folder / _JOINED / "wheels"
    if carried.is_dir():
        wheels.install(carried, folder / _SITE)
    print(f"{folder / _JOINED}: {len(index.files)} files, {index.size_bytes / 1e6:.0f} MB, all as they were prepared")


def run(options: argparse.Namespace, given: list[str]) -> None:
    """Look at vectors, operators and placement, then measure row by row; goes on where it was stopped."""
    folder: Path = options.folder
    if options.rehearsal and options.out is not None:
        raise RecipeError(f"--out {options.out}: a rehearsal leaves no figures; its results stay in {folder}")
    _enter(folder, given)
    from benchmarks.cuda.material import Material
    from benchmarks.cuda.place import ON_CARD, REHEARSAL
    from benchmarks.cuda.plan import Plan
    from benchmarks.cuda.run import Run

    command = shlex.join(["python", "-m", "benchmarks.cuda", *given])
    material = Material(folder / _JOINED)
    if options.rehearsal:
        from benchmarks.cuda.rehearsal import PLAN

        Run(material, REHEARSAL, PLAN, command).run(folder / _REHEARSED, options.budget)
    else:
        _require_own_runtime(folder / _SITE)
        Run(material, ON_CARD, Plan(), command).run(options.out or folder / _RESULTS, options.budget)


def figures(options: argparse.Namespace, given: list[str]) -> None:
    """Prepare, join and run on this machine, which has both a card and a network."""
    from compressor.machine.card import require_card
    from exporters.runtime.names import CUDA

    require_card(CUDA)
    prepare(options, given)
    join(argparse.Namespace(folder=options.out), given)
    _go_on(["run", str(options.out)])


def rehearse(options: argparse.Namespace, given: list[str]) -> None:
    """Prepare, join and run with the CPU in the card's place, small and in minutes; nothing of it is a figure."""
    from benchmarks.cuda import rehearsal
    from benchmarks.cuda.prepare import Prepare

    rehearsal.prepare(Prepare.read(_fields(options) | {"python": None}), options.out)
    join(argparse.Namespace(folder=options.out), given)
    _go_on(["run", str(options.out), "--rehearsal"])


def _go_on(words: list[str]) -> None:
    """Take another step, as if it had been typed."""
    options = _parser().parse_args(words)
    options.step(options, words)


def _fields(options: argparse.Namespace) -> dict[str, object]:
    """Return the fields of ``Prepare`` that were given."""
    fields = {name: getattr(options, name) for name in ("teacher", "layers", "students", "texts")}
    return {name: value for name, value in fields.items() if value}


def _enter(folder: Path, given: list[str]) -> None:
    """Go on in a process with the wheels' packages, where any were carried."""
    if (folder / _SITE).is_dir():
        wheels.enter(folder / _SITE, given)
    elif (folder / _JOINED / "wheels").is_dir():
        raise ArtifactError(f"{folder / _SITE}: not there; python -m benchmarks.cuda join {folder} installs the wheels")


def _require_own_runtime(site: Path) -> None:
    if site.is_dir():
        import onnxruntime

        wheels.require_own("onnxruntime", onnxruntime.__file__, site)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda", description=main.__doc__)
    steps = parser.add_subparsers(required=True, metavar="STEP")
    for step in (prepare, figures, rehearse):
        command = _step(steps, step)
        command.add_argument("--out", type=Path, required=True, help="folder to write into")
        command.add_argument("--teacher", help="the original model: a folder or a name on the hub")
        command.add_argument(
            "--layers", type=_numbers, help="depths to measure beside the teacher's own [default: 6,3,1]"
        )
        command.add_argument(
            "--student", dest="students", action="append", help="a trained student's folder; repeatable"
        )
        command.add_argument("--texts", help="a file of texts or a data set [default: docstrings]")
        if step is not rehearse:
            here = f"{sys.version_info.major}.{sys.version_info.minor}"
            command.add_argument("--python", default=here, help="its version there, 3.11 to 3.14 [default: as here]")
    command = _step(steps, join)
    command.add_argument("folder", type=Path, help="the folder that parts was carried into")
    command = _step(steps, run)
    command.add_argument("folder", type=Path, help="the folder that was joined")
    command.add_argument("--out", type=Path, help=f"file of the results [default: {_RESULTS} in the folder]")
    command.add_argument("--budget", type=float, help="seconds; rows that do not fit are left, the least first")
    command.add_argument("--rehearsal", action="store_true", help="with the CPU in the card's place")
    return parser


def _step(steps: Any, step: Callable[..., None]) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = steps.add_parser(step.__name__, help=step.__doc__, description=step.__doc__)
    made.set_defaults(step=step)
    return made


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
