"""Where a graph's time goes: each operator's time as ONNX Runtime profiles it, and the multiply-adds that it does."""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from compressor.artifact.layout import EMBEDDING, GRAPH
from compressor.core.errors import ArtifactError, first_line
from exporters.runtime.names import with_cpu
from exporters.runtime.providers import CPU, open_session

Shape = Sequence[int]
_FLOAT_PRODUCTS = {"MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulNBits"}
_INT8_PRODUCTS = {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"}
_ATTENTION = {"Attention", "QAttention", "MultiHeadAttention"}
_CONTAINERS = {"If", "Loop", "Scan"}
INT8_OPERATORS = _INT8_PRODUCTS | {"QAttention"}
"""Operators whose products of weights run in int8; QAttention multiplies queries, keys and values in fp32."""


@dataclass(frozen=True)
class Operator:
    """All nodes of one operator, in one run of the graph."""

    name: str
    nodes: int
    seconds: float
    operations: int
    """Two for each multiply-add of a product of matrices; other work counts nothing."""


@dataclass(frozen=True)
class _Ran:
    """One node's work, once."""

    operator: str
    node: tuple[str, ...]
    """Its name and place in its graph, those of the containers around it in front: each branch counts from 0."""
    start: int
    """Microseconds since the session began."""
    seconds: float
    operations: int


def profile(folder: Path, feeds: Mapping[str, Any], repeats: int = 5) -> list[Operator]:
    """Run an artifact's graph on int64 [batch, length] feeds, on one thread, and return what took how long.

    The longest comes first. A node's time is the median of ``repeats`` runs, after one that warms up, in a session of
    its own: others do not pay for the profile. If, Loop and Scan are left out: their time is that of the nodes in
    them, which count, each at its own place. ArtifactError for a graph that cannot be loaded or run.
    """
    _, *measured = _runs(recorded(folder, feeds, 1 + repeats))
    return _by_operator(measured)


def operations_of(operator: str, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> int:
    """Count two for each multiply-add of one node, from the shapes of what went in and came out.

    Constant weights may be missing from ``inputs``: ONNX Runtime packs them at load. An operator that multiplies no
    matrices counts 0. Padding counts: it is computed like any token.
    """
    if operator in _ATTENTION:
        return _attention(operator, inputs, outputs[0])
    if operator not in _FLOAT_PRODUCTS | _INT8_PRODUCTS:
        return 0
    # [..., M, K] by [..., K, N]: K follows from the first factor, however it is transposed.
    output = outputs[0]
    return 2 * prod(inputs[0]) * (output[-1] if output else 1)


def _attention(operator: str, inputs: Sequence[Shape], output: Shape) -> int:
    batch, length, width = output[0], output[-2], output[-1]
    queried_alone = operator == "QAttention" or (operator == "Attention" and len(inputs[1]) < 3)
    keys = length if queried_alone or len(inputs) < 2 else inputs[1][-2]
    inner = 2 * 2 * batch * length * keys * width  # queries by keys, and what comes of it by values
    projections = 2 * batch * length * inputs[0][-1] * 3 * width if queried_alone else 0
    return inner + projections


def recorded(folder: Path, feeds: Mapping[str, Any], runs: int, provider: str = CPU) -> list[dict[str, Any]]:
    """Run an artifact's graph so many times, and return the events that ONNX Runtime's profile has of it."""
    with TemporaryDirectory() as aside:
        session = open_session(folder, with_cpu(provider), 1, profile=Path(aside) / "profile")
        outputs = [value.name for value in session.get_outputs() if value.name != EMBEDDING[0]]
        inputs = {value.name: feeds[value.name] for value in session.get_inputs()}
        try:
            for _ in range(runs):
                session.run(outputs, inputs)
        except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
            raise ArtifactError(f"{folder / GRAPH}: cannot be run: {first_line(error)}") from error
        finally:
            written = Path(session.end_profiling())
        return json.loads(written.read_text("utf-8"))


def is_node(event: Mapping[str, Any]) -> bool:
    """Tell the events of a node's own work."""
    return event.get("cat") == "Node" and str(event["name"]).endswith("_kernel_time")


def shapes(about: Mapping[str, Any], end: str) -> list[Shape]:
    """Read the shapes of a node's ``input`` or ``output`` as its event has them: a list of {type: shape}."""
    return [shape for entry in about.get(f"{end}_type_shape") or [] for shape in entry.values()]


def _runs(events: Iterable[dict[str, Any]]) -> Iterator[list[_Ran]]:
    """Yield what ran in each run of the graph, in order; ONNX Runtime records an event when it ends."""
    run: list[_Ran] = []
    for event in events:
        if event.get("cat") == "Session" and event["name"] == "model_run":
            yield run
            run = []
        elif is_node(event):
            ran = _ran(event)
            if ran.operator in _CONTAINERS:  # what ended before it and started after it is of its branch
                run = [
                    replace(earlier, node=ran.node + earlier.node) if earlier.start >= ran.start else earlier
                    for earlier in run
                ]
            else:
                run.append(ran)


def _ran(event: dict[str, Any]) -> _Ran:
    about = event["args"]
    operator = about["op_name"]
    operations = operations_of(operator, shapes(about, "input"), shapes(about, "output"))
    node = (f"{event['name']} {about['node_index']}",)
    return _Ran(operator, node, event["ts"], event["dur"] / 1e6, operations)


def _by_operator(runs: Sequence[Sequence[_Ran]]) -> list[Operator]:
    seconds: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for run in runs:
        once: dict[tuple[str, ...], float] = defaultdict(float)  # a node of a Loop runs several times
        for ran in run:
            once[ran.node] += ran.seconds
        for node, took in once.items():
            seconds[node].append(took)
    operators, by_name = [], attrgetter("operator")
    for name, of_name in itertools.groupby(sorted(runs[-1], key=by_name), key=by_name):
        own = list(of_name)
        nodes = {call.node for call in own}
        total = sum(float(np.median(seconds[node])) for node in nodes)
        operators.append(Operator(name, len(nodes), total, sum(call.operations for call in own)))
    return sorted(operators, key=lambda operator: -operator.seconds)
