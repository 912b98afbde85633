"""Pick from a measured trade-off: the bounds hold, and of what was not bounded the best; say why, and what it costs."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.report.numbers import significant, size
from benchmarks.report.results import Row, number, systems
from benchmarks.tradeoff.table import FORMAT, PASSED, measure_label
from compressor.core.errors import ArtifactError, GateError, RecipeError
from compressor.core.strict_json import JsonObject

_WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?:_\d{3})+|\d+)"
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class Bounds:
    """What a model must keep; None where nothing is asked."""

    quality: float | None = None
    """Least share of the teacher's quality."""
    speed: float | None = None
    """Least throughput, as a multiple of the teacher's."""
    size: float | None = None
    """Most bytes on disk."""
    retrieval: float | None = None
    """Least share of what the teacher finds, its mean nDCG@10."""

    @classmethod
    def read(
        cls, quality: str | None = None, speed: str | None = None, size: str | None = None, retrieval: str | None = None
    ) -> "Bounds":
        """Read the options' words; RecipeError names option, value and what is allowed."""
        return cls(
            None if quality is None else _quality(quality, "--quality"),
            None if speed is None else _positive("--speed", speed, r"[x×]?", "a factor above 0, as 10 or 10x"),
            None if size is None else _size(size),
            None if retrieval is None else _quality(retrieval, "--retrieval"),
        )

    def __str__(self) -> str:
        parts = [f"quality ≥ {100 * self.quality:g} %"] if self.quality is not None else []
        parts += [f"speed ≥ {self.speed:g}×"] if self.speed is not None else []
        parts += [f"size ≤ {size(self.size)}"] if self.size is not None else []
        parts += [f"retrieval ≥ {100 * self.retrieval:g} %"] if self.retrieval is not None else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Choice:
    """A row that may be recommended: it passed the gate, and is measured on all three axes."""

    name: str
    label: str
    share: float
    ratio: float
    slowest: float
    fastest: float
    size_bytes: float
    artifact: str
    points: float
    """The figure that ``share`` is of: Spearman x 100, or the agreement itself."""
    found: float | None = None
    """Share of what the teacher finds, where it was measured."""

    @classmethod
    def of(cls, row: Row, measure: Row) -> "Choice | None":
        """Read a row of the table; none for one that missed the gate or lacks a figure."""
        share, ratio, size = number(row, "share"), number(row, "offline", "ratio"), number(row, "size_bytes")
        if row.get("gate") != PASSED or share is None or not ratio or not size:
            return None
        low, high = (number(row, "offline", end) or ratio for end in ("ratio_min", "ratio_max"))
        points = _points(row, measure)
        found = number(row, "retrieval_share")
        return cls(row["name"], row["label"], share, ratio, low, high, size, row["artifact"], points, found)

    def as_fast_as(self, other: "Choice") -> bool:
        """Whether the ranges over the rounds overlap: then neither is called the faster."""
        return self.slowest <= other.fastest and other.slowest <= self.fastest

    def misses(self, bounds: Bounds) -> dict[str, float]:
        """Return, for each bound that does not hold, by which factor."""
        factors = {
            "--quality": 1 if bounds.quality is None else bounds.quality / max(self.share, 1e-9),
            "--speed": 1 if bounds.speed is None else bounds.speed / self.ratio,
            "--size": 1 if bounds.size is None else self.size_bytes / bounds.size,
            "--retrieval": 1 if bounds.retrieval is None else bounds.retrieval / max(self.found or 0, 1e-9),
        }
        return {option: factor for option, factor in factors.items() if factor > 1}

    def __str__(self) -> str:
        speed = f"{significant(self.ratio)}× [{self.slowest:.2f}–{self.fastest:.2f}] its speed"
        share = f"{100 * self.share:.1f} % of the teacher's quality"
        share += "" if self.found is None else f", {100 * self.found:.1f} % of what it finds"
        return f"{self.label}: {share}, {speed}, {size(self.size_bytes)}"


@dataclass(frozen=True)
class Recommendation:
    """What was picked, and why."""

    pick: Row
    """The row of the trade-off."""
    bounds: Bounds
    summary: str
    why: str
    """The rule, in words."""
    given_up: str
    next_better: str
    """What the next row up in quality would bring and cost."""
    front: Sequence[str]
    """Names of the rows that no other beats."""
    artifact: str
    """Its path."""

    def as_dict(self) -> JsonObject:
        """Return it as JSON has it."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return what a person reads."""
        parts = {"why": self.why, "given up": self.given_up, "next better": self.next_better, "artifact": self.artifact}
        return [self.summary, *(f"{part}: {text}" for part, text in parts.items())]


def recommend(path: Path, bounds: Bounds) -> Recommendation:
    """Pick a row of the trade-off in ``path``, a folder or its ``tradeoff.json``.

    GateError, with the closest row, where nothing keeps the bounds.
    """
    results, folder = _read(path), path if path.is_dir() else path.parent
    measure = results["measure"]
    choices = [choice for row in systems(results) if (choice := Choice.of(row, measure))]
    if not choices:
        raise GateError(f"{path}: no row passed the gate; nothing to recommend")
    if bounds.retrieval is not None and all(choice.found is None for choice in choices):
        raise RecipeError(
            f"--retrieval: {path} was measured without collections; give bench.retrieval and run it again"
        )
    front = pareto(choices)
    candidates = [choice for choice in front if not choice.misses(bounds)]
    if not candidates:
        raise GateError(f"{path}: nothing keeps {bounds}; {_closest(front, bounds)}")
    pick, rule = _picked(candidates, bounds)
    teacher = _points(systems(results)[0], measure)
    return Recommendation(
        pick=next(row for row in systems(results) if row["name"] == pick.name),
        bounds=bounds,
        summary=str(pick),
        why=_why(bounds, rule, candidates, len(front), pick),
        given_up=_given_up(pick, teacher, measure_label(results)),
        next_better=_next_better(pick, front, "sts" in measure),
        front=[choice.name for choice in front],
        artifact=str(folder / pick.artifact),
    )


def pareto(choices: Sequence[Choice]) -> list[Choice]:
    """Return the choices that no other beats: as good in quality, retrieval, size and speed, and better in one.

    Speeds whose ranges overlap are equal.
    """
    return [choice for choice in choices if not any(_beats(other, choice) for other in choices)]


def _beats(choice: Choice, other: Choice) -> bool:
    equal = choice.as_fast_as(other)
    found, its = choice.found or 0.0, other.found or 0.0
    if choice.share < other.share or choice.size_bytes > other.size_bytes or found < its:
        return False
    if not (equal or choice.ratio > other.ratio):
        return False
    return choice.share > other.share or choice.size_bytes < other.size_bytes or found > its or not equal


def _picked(candidates: Sequence[Choice], bounds: Bounds) -> tuple[Choice, str]:
    """Choose by what was not bounded: size last, speed where quality is bounded, quality otherwise."""
    keeps = bounds.quality is not None or bounds.retrieval is not None
    bounded = (keeps, bounds.speed is not None, bounds.size is not None)
    if bounded == (False, False, False):
        return knee(candidates), "the knee"
    if bounded == (True, True, False):
        return min(candidates, key=lambda c: (c.size_bytes, -c.share)), "the smallest"
    if bounded[0] and not bounded[1]:
        return _fastest(candidates), "the fastest"
    return max(candidates, key=lambda c: (c.share, c.ratio)), "the best in quality"


def _fastest(candidates: Sequence[Choice]) -> Choice:
    """Take the fastest; among those equal to it in speed the best in quality, then the smallest."""
    first = max(candidates, key=lambda c: c.ratio)
    equal = [choice for choice in candidates if choice.as_fast_as(first)]
    return max(equal, key=lambda c: (c.share, -c.size_bytes))


def knee(front: Sequence[Choice]) -> Choice:
    """Take the row farthest above the line from the best in quality to the fastest, speed on a log scale.

    Both axes from 0 to 1 over the front (Satopää et al. 2011, "Finding a 'Kneedle' in a Haystack").
    """
    shares, speeds = [c.share for c in front], [math.log(c.ratio) for c in front]

    def height(choice: Choice) -> tuple[float, float]:
        across = (math.log(choice.ratio) - min(speeds)) / (max(speeds) - min(speeds) or 1)
        return (choice.share - min(shares)) / (max(shares) - min(shares) or 1) + across, choice.share

    return max(front, key=height)


def _why(bounds: Bounds, rule: str, candidates: Sequence[Choice], front: int, pick: Choice) -> str:
    if rule == "the knee":
        reason = "no bound given: the knee of the Pareto front, farthest above the line from its best in quality to its"
        return f"{reason} fastest (speed on a log scale), of {front} on it"
    equal = [c.label for c in candidates if c is not pick and c.as_fast_as(pick)] if rule == "the fastest" else []
    tie = f"; equal in speed (ranges overlap), and not better in quality: {', '.join(equal)}" if equal else ""
    slow = bounds.speed is not None and pick.slowest < bounds.speed
    dip = f"; in its slowest round {pick.slowest:.2f}×" if slow else ""
    if len(candidates) == 1:
        return f"{bounds}: the only row on the Pareto front that keeps it{dip}"
    return f"{bounds}: {rule} of the {len(candidates)} rows on the Pareto front that keep it{tie}{dip}"


def _given_up(pick: Choice, teacher: float, label: str) -> str:
    lost = teacher - pick.points
    unit, places = ("points of ", 2) if "Spearman" in label else ("of ", 4)
    if round(lost, places) <= 0:
        return f"no quality: {-lost:.{places}f} {unit}{label} above the teacher's {teacher:.{places}f}"
    return f"{lost:.{places}f} {unit}{label}, of the teacher's {teacher:.{places}f}"


def _next_better(pick: Choice, front: Sequence[Choice], points: bool) -> str:
    """Say what the next row up in quality would bring and cost."""
    better = [choice for choice in front if choice.share > pick.share]
    if not better:
        return "none; no row that passed has a better quality"
    row = min(better, key=lambda c: (c.share, -c.ratio))
    gain = f"{row.points - pick.points:.2f} points more" if points else f"{row.points - pick.points:.4f} more"
    factor = pick.ratio / row.ratio
    pace = f"{max(factor, 1 / factor):.2f}× {'slower' if factor > 1 else 'faster'}"
    speed = "equal in speed (ranges overlap)" if row.as_fast_as(pick) else pace
    size = row.size_bytes / pick.size_bytes
    return f"{row.label}: {gain}; {speed}, {max(size, 1 / size):.2f}× {'larger' if size >= 1 else 'smaller'}"


def _closest(front: Sequence[Choice], bounds: Bounds) -> str:
    def distance(choice: Choice) -> float:
        return sum(math.log(factor) for factor in choice.misses(bounds).values())

    row = min(front, key=distance)
    return f"closest is {row}, which misses {' and '.join(row.misses(bounds))}"


def _points(row: Row, measure: Row) -> float:
    if "sts" in measure:
        return number(row, "sts", measure["sts"]) or 0.0
    return number(row, "share") or 0.0


def _read(path: Path) -> Row:
    file = path / "tradeoff.json" if path.is_dir() else path
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{file}: no such trade-off; `compressor tradeoff` writes it") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{file}: not readable as a trade-off: {error}") from error
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        raise ArtifactError(f"{file}: format is not {FORMAT}; not a trade-off")
    return results


def _quality(text: str, option: str) -> float:
    allowed = "a share of the teacher's above 0 and at most 1, as 0.99 or 99%"
    share = _positive(option, text.removesuffix("%"), "", allowed, shown=text) / (100 if text.endswith("%") else 1)
    if share > 1:
        raise RecipeError(f"{option} {text}: must be {allowed}")
    return share


def _size(text: str) -> float:
    allowed = "a size above 0, as 10MB, 10 MiB or a count of bytes"
    unit = (re.search(r"[A-Za-z]+$", text.strip()) or [""])[0]
    known = unit.lower() in ("", *_UNITS)
    value = _positive("--size", text, re.escape(unit) if known else "", allowed)
    return value * _UNITS.get(unit.lower(), 1)


def _positive(option: str, text: str, unit: str, allowed: str, shown: str | None = None) -> float:
    """Read a number above 0 with ``unit`` (a pattern) behind it; a comma or ``_`` stands before three digits alone."""
    digits = rf"{_WHOLE}(?:\.\d*)?|\.\d+"
    match = re.fullmatch(rf"\s*({digits})(e[+-]?\d+)?\s*(?:{unit})\s*", text, re.IGNORECASE)
    value = float((match[1] + (match[2] or "")).replace(",", "").replace("_", "")) if match else 0.0
    if not 0 < value < math.inf:
        raise RecipeError(f"{option} {text if shown is None else shown}: must be {allowed}")
    return value
