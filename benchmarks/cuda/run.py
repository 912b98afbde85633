"""The run on a card: what is looked at first, then row by row, the ones that matter most first."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from benchmarks.cuda.checks import examine, recorded
from benchmarks.cuda.material import Material
from benchmarks.cuda.measure import Items, items_of, measure
from benchmarks.cuda.place import Place
from benchmarks.cuda.plan import Budget, Cell, Plan
from benchmarks.cuda.results import Missed, Results, Row
from benchmarks.cuda.runners import Runner, TorchRunner, open_system, record
from benchmarks.cuda.systems import BASELINE, System, measured, systems_of
from compressor.artifact.folder import key_of
from compressor.core.errors import CompressorError, one_line
from compressor.core.progress import say
from exporters.runtime.tokenizer import token_limit
from exporters.tasks.lengths import plain_tokenizer
from exporters.verify.check import Check, gate

NAME = "cuda"


@dataclass
class Run:
    """One run: its material, where it computes, what it measures."""

    material: Material
    place: Place
    plan: Plan
    command: str
    _opened: dict[tuple[object, ...], Runner] = field(default_factory=dict)

    def run(self, path: Path, seconds: float | None = None) -> None:
        """Write the results to ``path``, in at most about ``seconds``; what is there already is not measured again.

        ProviderError without the card. GateError, once all is written, names a check that was missed.
        """
        budget = Budget(seconds, time.monotonic())
        self.place.require()
        machine = self.place.machine()
        say(", ".join(f"{name} {value}" for name, value in machine.items()))
        results = Results(path, self._head())
        cells = self.plan.cells(token_limit(self._deepest))
        left = results.missing(cells, machine)
        say(f"  {len(cells)} rows, {len(cells) - len(left)} of them there already")
        if left:
            self._measure(results, cells, left, machine, budget)
        gate([Check.read(row) for row in results.about.get("checks", [])])

    def _measure(
        self, results: Results, cells: Sequence[Cell], left: list[Cell], machine: dict[str, str], budget: Budget
    ) -> None:
        systems = systems_of(self.material.stated)
        checks, failed = self._examined(systems)
        results.about = {
            "environment": self.place.environment(),
            "checks": [check.as_dict() for check in checks],
            "failed": failed,
            "systems": self._described(systems),
            "planned": [cell.key for cell in cells],
        }
        results.write()
        say(f"  checked; {time.monotonic() - budget.begun:.0f} s")
        crowded: tuple[int, int] | None = None
        for number, cell in enumerate(left):
            begun = time.monotonic()
            if not budget.allows(begun):
                say(f"  {len(left) - number} rows left, no time for another; the same command goes on")
                return
            if crowded and crowded != (cell.batch, cell.tokens):
                self.close()
            row = self.row(cell, measured(systems, list(failed)))
            _require_figures(row)
            results.add(replace(row, machine=machine, seconds=time.monotonic() - begun), cells)
            budget.longest = max(budget.longest, time.monotonic() - begun)
            _say_row(row, time.monotonic() - budget.begun)
            full = cell.is_large or len(row.timed) < len(row.systems)
            crowded = (cell.batch, cell.tokens) if full else None

    def _examined(self, systems: Sequence[System]) -> tuple[list[Check], dict[str, str]]:
        """Look at all that is measured, then at what takes the place of what failed."""
        usual = measured(systems, [])
        checks, failed = examine(usual, self.open, self.material, self.place)
        if spare := [system for system in measured(systems, list(failed)) if system not in usual]:
            more, failed_too = examine(spare, self.open, self.material, self.place)
            return checks + more, failed | failed_too
        return checks, failed

    def row(self, cell: Cell, systems: Sequence[System]) -> Row:
        """Measure one cell; a system that cannot be says why."""
        items = items_of(cell, self.tokenizer, self.material.timed)
        runners, reasons = self._runners([system for system in systems if system.at(cell, self.plan)], cell, items)
        figures = measure({name: items.of(one, cell) for name, one in runners.items()}, cell, self.plan, BASELINE)
        figures += [Missed(name, reason) for name, reason in reasons.items()]
        return Row(cell, cell.texts, self.plan.rounds, figures)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the models' tokenizer, without padding and truncation."""
        return plain_tokenizer(self._deepest / "tokenizer.json")

    @property
    def _deepest(self) -> Path:
        return self.material.graph(self.material.stated.layers, "fp32")

    def _runners(self, systems: Sequence[System], cell: Cell, items: Items) -> tuple[dict[str, Runner], dict[str, str]]:
        """Open what a row needs, recorded launches for its shape; say why one cannot be."""
        runners, reasons = dict[str, Runner](), dict[str, str]()
        for system in systems:
            try:
                opened = self.open(system)
                if system.recorded_of is not None:
                    plain, opened = opened, record(system, opened, self.material, self.place, cell.batch, cell.tokens)
                    if (reason := recorded(system, items.vectors(opened), items.vectors(plain))) is not None:
                        reasons[system.name] = reason
                        continue
                runners[system.name] = opened
            except Exception as error:  # a library's own: the others are measured all the same
                reasons[system.name] = one_line(error)
        return runners, reasons

    def open(self, system: System) -> Runner:
        """Open a system once; those of one model in one form share it."""
        key = _key(system)
        if key not in self._opened:
            self._opened[key] = open_system(system, self.material, self.place)
        return self._opened[key]

    def close(self) -> None:
        """Let go of graphs: each session keeps what its largest batch took, gigabytes that the next row needs."""
        self._opened = {key: one for key, one in self._opened.items() if isinstance(one, TorchRunner)}
        gc.collect()
        if self.place.device == "cuda":
            torch.cuda.empty_cache()

    def _described(self, systems: Sequence[System]) -> list[dict[str, Any]]:
        """Return what each system is, and the attention that transformers took where it is PyTorch's."""
        sizes = {(graph.layers, graph.form): graph.size_bytes for graph in self.material.stated.graphs}
        rows = []
        for system in systems:
            size = sizes.get((system.layers, system.onnx)) if system.onnx is not None else None
            row = {"name": system.name, "label": system.label, "layers": system.layers, "size_bytes": size}
            opened = self._opened.get(_key(system))
            rows.append(row | ({"attention": opened.attention} if isinstance(opened, TorchRunner) else {}))
        return rows

    def _head(self) -> dict[str, Any]:
        stated = self.material.stated
        students = {str(student.layers): student.made for student in stated.students}
        return {
            "name": NAME,
            "command": self.command,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "rehearsal": self.place.rehearsal,
            "material": key_of([self.material.key, self.plan.model_dump(mode="json")]),
            "teacher": {"name": stated.teacher, "weights_sha256": stated.weights_sha256, "layers": stated.layers},
            "students": students,
            "texts": stated.texts,
        }


def _key(system: System) -> tuple[object, ...]:
    return system.layers, system.torch, system.onnx


def _require_figures(row: Row) -> None:
    """Raise CompressorError where no system could be measured: a card that has failed fails all that follows."""
    if not row.timed:
        reason = next((one.reason for one in row.systems if isinstance(one, Missed)), "no system is left")
        raise CompressorError(f"{row.cell.key}: nothing could be measured: {reason}")


def _say_row(row: Row, elapsed: float) -> None:
    timed = row.timed
    best = max(timed.values(), key=lambda one: one.rate)
    base = f", {BASELINE} {timed[BASELINE].rate:,.0f}" if BASELINE in timed else ""
    say(f"  {row.cell.key}: {best.name} {best.rate:,.0f} texts/s{base}; {elapsed:.0f} s")
