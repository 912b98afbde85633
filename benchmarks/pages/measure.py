"""Measure what the pages show again, set by set: ``python -m benchmarks.pages.measure students``.

Each step is a command of the project, as a person would type it, and goes on where it was stopped.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FIGURES = Path("docs/figures")
DATA = Path("../shared/data")
_README = "minilm-l3-d256-int8"
_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
_DEPTHS = (6, 3, 2, 1)


@dataclass(frozen=True)
class Step:
    """One command, and the file of results that it leaves, with the name that the pages know it by."""

    words: tuple[str, ...]
    results: Path | None = None
    name: str = ""

    def run(self) -> int:
        """Run the command; where it succeeds, carry its results over. Return its exit status."""
        print(f"$ {shlex.join(['compressor', *self.words])}", flush=True)
        status = subprocess.run([sys.executable, "-P", "-m", "compressor.cli", *self.words], check=False).returncode
        if not status and self.results is not None:
            shutil.copy(self.results, FIGURES / f"{self.name}.json")
        return status


def run(name: str) -> Step:
    """Return the step that walks a recipe."""
    return _step(f"run recipes/{name}.toml", f"runs/{name}/results.json", name)


def readme(data: Path) -> list[Step]:
    """README's model."""
    return [run(_README)]


def students(data: Path) -> list[Step]:
    """Every depth, the students of docs/students.md, and vectors by size."""
    curve = f"--texts {data}/corpus/en.txt.gz --sts {data}/stsb/en-test.csv,{data}/stsb/en-dev.csv"
    layers = "tradeoff recipes/minilm-layers.toml --layers 6,5,4,3,2,1,0 --precision both"
    short = "curve runs/minilm-l3-matryoshka/pca --truncate --dims 64,32"
    return [
        _step(layers, "runs/minilm-layers-tradeoff/tradeoff.json", "minilm-layers"),
        *map(run, ("minilm-l1", "minilm-light", "minilm-l3-matryoshka", "minilm-german")),
        _step(f"curve {_TEACHER} --keep both {curve} --out runs/minilm-vectors", "runs/minilm-vectors/curve.json",
              "minilm-vectors"),
        _step(f"{short} {curve} --out runs/minilm-l3-matryoshka-vectors",
              "runs/minilm-l3-matryoshka-vectors/curve.json", "minilm-l3-matryoshka-vectors"),
    ]  # fmt: skip


def answers(data: Path) -> list[Step]:
    """The reader, and what each ingredient of its distillation is worth."""
    ablation = _step("ablation recipes/minilm-qa.toml", "runs/minilm-qa/ablation.json", "minilm-qa-ablation")
    return [run("minilm-qa"), ablation]


def peers(data: Path) -> list[Step]:
    """The fastest forms of several depths beside the peers; forms are chosen on other texts than are reported."""
    texts, choose, report = f"{data}/corpus/en.txt.gz", f"{data}/stsb/en-dev.csv", f"{data}/stsb/en-test.csv"
    students = {6: _TEACHER, 3: f"runs/{_README}/distil"}
    students |= {depth: f"runs/minilm-fastest-tradeoff/{depth}-layers/distil" for depth in (2, 1)}
    fastest = {depth: f"runs/fastest/{depth}-layers" for depth in _DEPTHS}
    search = f"--texts {texts} --speed-texts {choose}"
    beside = f"--texts {texts} --sts {report} --speed-texts {report} --batch-sizes 8,16,32,64,128 --lengths 128"
    return [
        *readme(data),
        _step("tradeoff recipes/minilm-fastest.toml --layers 3,2,1 --precision both",
              "runs/minilm-fastest-tradeoff/tradeoff.json", "minilm-fastest"),
        *(_step(f"export {students[depth]} --out runs/exported/{depth}-layers") for depth in _DEPTHS),
        *(_step(f"optimise runs/exported/{depth}-layers --out {fastest[depth]} {search}") for depth in _DEPTHS[1:]),
        _step(f"optimise runs/exported/6-layers --out {fastest[6]} {search}", f"{fastest[6]}/search.json",
              "search-6-layers"),
        _step(f"bench {' '.join(fastest.values())} {beside} --peers all --out runs/peers", "runs/peers/peers.json",
              "peers"),
        *limits(data),
    ]  # fmt: skip


def retrieval(data: Path) -> list[Step]:
    """The students to search with, and what each ingredient of their distillation is worth."""
    name = "minilm-retrieval"
    fewer = "--set texts.limit=30000 --set distil.layers=1 --set distil.time_budget= --set distil.epochs=0.5"
    command = f"tradeoff recipes/{name}.toml --layers 3,2,1 --precision both"
    return [
        _step(command, f"runs/{name}-tradeoff/tradeoff.json", name),
        _step(f"ablation recipes/{name}.toml {fewer}", f"runs/{name}/ablation.json", f"{name}-ablation"),
    ]


def sizes(data: Path) -> list[Step]:
    """A student for each of several sizes, beside the teacher whole."""
    name = "minilm-sizes"
    command = f"tradeoff recipes/{name}.toml --sizes 13.5MB,8MB,5MB,3MB,2MB --speed 13x"
    return [_step(command, f"runs/{name}-tradeoff/tradeoff.json", name)]


def limits(data: Path) -> list[Step]:
    """What bounds the fastest forms, a million texts, and MLCommons LoadGen, for which its package is needed."""
    report, deep, shallow = f"{data}/stsb/en-test.csv", "runs/fastest/6-layers", "runs/fastest/3-layers"
    texts = f"--texts {data}/corpus/en.txt.gz"
    return [
        _step(f"profile {deep} --speed-texts {report} --out {FIGURES}/limit-6-layers.json"),
        _step(f"profile {shallow} --speed-texts {report} --out {FIGURES}/limit-3-layers.json"),
        _step(f"growth {shallow} {texts} --out {FIGURES}/growth.json"),
        _step(f"loadgen {shallow} {texts} --rounds 12 --out {FIGURES}/loadgen.json"),
    ]


def _step(command: str, results: str | None = None, name: str = "") -> Step:
    return Step(tuple(command.split()), Path(results) if results else None, name)


SETS: dict[str, Callable[[Path], list[Step]]] = {
    "readme": readme, "students": students, "answers": answers, "peers": peers, "limits": limits,
    "retrieval": retrieval, "sizes": sizes,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Make and measure a set of figures again, then write the pages; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages.measure", description=main.__doc__)
    parser.add_argument("set", choices=SETS, help="; ".join(f"{name}: {make.__doc__}" for name, make in SETS.items()))
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the data [default: {DATA}]")
    parser.add_argument("--list", action="store_true", help="show the commands and run none")
    given = parser.parse_args(arguments)
    for step in SETS[given.set](given.data):
        if given.list:
            print(shlex.join(["compressor", *step.words]))
        elif status := step.run():
            return status
    return (
        0
        if given.list
        else subprocess.run([sys.executable, "-P", "-m", "benchmarks.pages.figures"], check=False).returncode
    )


if __name__ == "__main__":
    sys.exit(main())
