"""What is said of a graph of others that was checked, and which bars are this project's promises alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from compressor.untrusted.inspection import Finding
from exporters.foreign.adopt import Adopted
from exporters.foreign.find import Foreign, graphs_in
from exporters.verify.check import Check, Verifying

_PROMISES = ("fusions as run", "operators as run", "weights as stored")


def findings(foreign: Foreign, known: Adopted) -> Iterator[Finding]:
    """Yield what holds of a graph that was taken over."""
    yield Finding("files", "no manifest.json: nothing vouches for them", False)
    yield Finding("settings", "read; no code, no pickles")
    made = f"{known.precision}, {sum(known.operators.values())} known operators"
    yield Finding("graph", f"{foreign.name}: {made}, runs and gives {', '.join(known.widths)}")
    yield Finding("vectors", known.described(), known.pools_itself or known.stated.stated_by_folder)
    yield Finding("conformance", "no conformance set: outputs were compared with none", False)
    if others := [name for name in graphs_in(foreign.folder) if name != foreign.name]:
        yield Finding("other graphs", f"{', '.join(others)}: not looked at", False)


def without_promises(checks: Sequence[Check], bars: Verifying) -> list[Check]:
    """Return the checks without the bars that only what this project writes must clear; figures stay.

    A bar that was asked for stays: ``fused = true``.
    """
    asked = {"fusions as run"} if bars.fused is True else set()
    free = set(_PROMISES) - asked
    own = [(check, check.check.rpartition(": ")[2]) for check in checks]  # behind a provider's name
    return [replace(check, bar=None, field=None) if name in free else check for check, name in own]
