"""How figures are written, on pages, in tables and in pictures."""

import math
from typing import Any

from benchmarks.report.results import number

MISSING = "–"


def significant(value: float, digits: int = 3) -> str:
    """Write ``value`` to that many digits, never fewer than its whole ones: 0.312, 7.91, 1,234."""
    places = digits - 1 - (math.floor(math.log10(abs(value))) if value else 0)
    return f"{value:,.{max(0, places)}f}"


def digits(value: Any) -> str:
    """Write a measured figure to three digits."""
    return MISSING if (figure := _figure(value)) is None else significant(figure)


def megabytes(value: Any) -> str:
    """Write bytes in units of 10^6."""
    return MISSING if (figure := _figure(value)) is None else significant(figure / 1e6)


def millions(value: Any) -> str:
    """Write a count in units of 10^6: 22.7."""
    return MISSING if (figure := _figure(value)) is None else fixed(figure / 1e6, 1)


def count(value: Any) -> str:
    """Write a whole number, thousands apart."""
    return MISSING if (figure := _figure(value)) is None else f"{figure:,.0f}"


def duration(value: Any) -> str:
    """Write seconds, or minutes from two on."""
    if (figure := _figure(value)) is None:
        return MISSING
    return f"{figure / 60:.1f} min" if figure >= 120 else f"{significant(figure)} s"


def fixed(value: Any, places: int) -> str:
    """Write a figure to ``places`` decimals."""
    return MISSING if (figure := _figure(value)) is None else f"{figure:.{places}f}"


def percent(value: Any, space: str = "\N{NO-BREAK SPACE}") -> str:
    """Write a share as per cent."""
    return MISSING if (figure := _figure(value)) is None else f"{100 * figure:.1f}{space}%"


def plain(value: Any) -> str:
    """Write a figure of any magnitude: 0.9987, 12, 3.1e-07."""
    return MISSING if (figure := _figure(value)) is None else f"{figure:.6g}"


def size(value: Any) -> str:
    """Write bytes with their unit: 18.2 MB."""
    return with_unit(megabytes(value), "MB")


def with_unit(figure: str, unit: str) -> str:
    """Write a unit behind a figure that is there."""
    return figure if figure == MISSING else f"{figure} {unit}"


def ratio_range(offline: Any, to: str = "–") -> str:
    """Write the median ratio to the teacher and its range over the rounds: 8.13× [7.95–8.31]."""
    ratio, low, high = (number(offline, key) for key in ("ratio", "ratio_min", "ratio_max"))
    if ratio is None:
        return MISSING
    if low is None or high is None or low == high:
        return f"{ratio:.2f}×"
    return f"{ratio:.2f}× [{low:.2f}{to}{high:.2f}]"


def itself(row: Any) -> str:
    """Write what a system's ratio to itself was, and how sure that is: 1.01× [0.98–1.03], 97 % sure."""
    values = [number(row, key) for key in ("ratio", "low", "high", "confidence")]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return MISSING
    ratio, low, high, confidence = known
    return f"{ratio:.2f}× [{low:.2f}–{high:.2f}], {100 * confidence:.0f}\N{NO-BREAK SPACE}% sure"


def gain(factor: float | None, more: str, less: str) -> str:
    """Word a factor: 8.1× faster, or 1.3× slower for 0.77."""
    if not factor or factor < 0:
        return ""
    amount, word = (factor, more) if factor >= 1 else (1 / factor, less)
    return f"{amount:.1f}× {word}" if amount < 99.95 else f"{amount:,.0f}× {word}"


def _figure(value: Any) -> float | None:
    return number({"value": value}, "value")
