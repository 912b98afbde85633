"""What is looked at before anything is timed: right vectors, fused operators, and every node on the card."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmarks.cuda.material import Material
from benchmarks.cuda.place import Place
from benchmarks.cuda.placement import Placement, placement
from benchmarks.cuda.runners import Runner
from benchmarks.cuda.systems import AGAIN, System
from compressor.artifact.layout import INPUTS
from compressor.core.encoder import Vectors
from compressor.core.errors import one_line
from compressor.core.progress import say
from compressor.models.agreement import check_vectors, cosines
from exporters.verify.check import ATTENTION, GELU, Check

PARITY, COSINE = 1e-4, 0.9999
"""Bars: of fp32 every number of a unit vector, of sixteen bits the cosine, each with PyTorch in fp32 on a CPU."""
RUN = "operators that run"
_ROWS, _TOKENS = 16, 16  # of what is profiled: more numbers than a shape has, whatever is counted a text


def examine(
    systems: Sequence[System], opened: Callable[[System], Runner], material: Material, place: Place
) -> tuple[list[Check], dict[str, str]]:
    """Return all checks, and by its system's name why one is not measured.

    A system that cannot be opened is not, nor a graph whose vectors are not PyTorch's; what else is missed is stated,
    and the system is measured all the same.
    """
    checks, failed = list[Check](), dict[str, str]()
    for system in systems:
        if system.recorded_of is not None or system.name == AGAIN:
            continue  # its vectors are looked at where it is recorded, or have been
        try:
            vectors = np.asarray(opened(system).encode(material.checked, _ROWS), np.float32)
            check_vectors(vectors, system.name)
        except Exception as error:  # libraries raise whatever they run into: the others are measured all the same
            failed[system.name] = one_line(error)
            say(f"  {system.name}: {failed[system.name]}")
            continue
        found = [parity(system, vectors, material.reference(system.layers)), *_of_graph(system, material, place)]
        if not found[0].passed:
            failed[system.name] = f"{found[0].figure} {found[0].value:.6g}, must be {found[0].direction} {found[0].bar}"
        checks += found
        say(f"  {system.name}: {', '.join(f'{check.figure} {check.value:.6g}' for check in found)}")
    return checks, failed


def parity(system: System, vectors: Vectors, reference: Vectors) -> Check:
    """Hold vectors against PyTorch's in fp32 on a CPU; those of PyTorch itself are only stated."""
    what, ours = "parity with PyTorch fp32 on a CPU", system.onnx is not None
    if not system.half:
        difference = float(np.abs(vectors - reference).max())
        return Check(system.name, what, "largest difference", difference, PARITY if ours else None, "<=")
    least = float(cosines(vectors, reference).min())
    return Check(system.name, what, "least cosine", least, COSINE if ours else None)


def _of_graph(system: System, material: Material, place: Place) -> list[Check]:
    if system.onnx is None:
        return []
    ones = np.ones((_ROWS, _TOKENS), np.int64)
    feeds = dict.fromkeys(INPUTS, ones) | {INPUTS[2]: np.zeros_like(ones)}
    try:
        found = placement(material.graph(system.layers, system.onnx), place.provider, feeds)
    except Exception as error:  # a profile that is not there says nothing of the graph's speed
        return [Check(system.name, RUN, f"not to be seen: {one_line(error)}", 1.0, 0.0, "<=")]
    return list(graph_checks(system, found, place.provider))


def graph_checks(system: System, found: Placement, provider: str) -> Iterable[Check]:
    """Ask for one fused attention and Gelu a layer, and for no node elsewhere but those that compute shapes."""
    counts = found.operators()
    for kind, names in (("attention", ATTENTION), ("Gelu", GELU)):
        fused = sum(counts.get(name, 0) for name in names)
        yield Check(system.name, RUN, f"fused {kind}", float(fused), float(system.layers))
    away, astray = found.elsewhere(provider), found.astray(provider)
    named = f"nodes not on {provider}" + (f": {', '.join(astray)}" if astray else "")
    yield Check(system.name, RUN, named, float(len(astray)), 0.0, "<=")
    stated = ", ".join(f"{count} {name}" for name, count in away.items()) or "none"
    yield Check(system.name, RUN, f"nodes elsewhere that compute shapes: {stated}", float(sum(away.values())))


def recorded(system: System, vectors: Vectors, plain: Vectors) -> str | None:
    """Say why recorded launches are not measured: vectors that are not those of the same model, run plainly."""
    least = float(cosines(np.asarray(vectors, np.float32), np.asarray(plain, np.float32)).min())
    return None if least >= COSINE else f"least cosine with the same run plainly {least:.6g}, must be >= {COSINE}"
