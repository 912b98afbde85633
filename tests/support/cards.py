"""What is planned and stated of a run on a card, for tests without one."""

from benchmarks.cuda.material import Stated, Student
from benchmarks.cuda.plan import Cell, Plan
from benchmarks.cuda.results import Row, Timed
from benchmarks.cuda.systems import BASELINE, System, systems_of

STATED = Stated("teacher", "ab", 6, (Student(6, "the teacher itself"), Student(3, "copied")), (), "texts")
SMALL = Plan(batches=(1, 2), lengths=(16,), rounds=2, seconds=0.001, recorded_batch=1)
MACHINE = {"card": "one"}


def system(name: str) -> System:
    return next(one for one in systems_of(STATED) if one.name == name)


def row(cell: Cell, rate: float = 1.0, machine: dict[str, str] = MACHINE) -> Row:
    return Row(cell, cell.texts, 2, [Timed(BASELINE, rate, 10.0, [rate, rate], None)], machine, 0.5)
