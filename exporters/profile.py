"""Where a graph's time goes: each operator's time as ONNX Runtime profiles it, and the multiply-adds that it does."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from compressor.errors import ArtifactError, first_line
from exporters.layout import GRAPH
from exporters.providers import CPU, open_session

Shape = Sequence[int]
_FLOAT_PRODUCTS = {"MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulNBits"}
_INT8_PRODUCTS = {"MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"}
_ATTENTION = {"Attention", "QAttention", "MultiHeadAttention"}
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


def profile(folder: Path, ids: Any, mask: Any, repeats: int = 5) -> list[Operator]:
    """Run an artifact's graph on int64 [batch, length] ids and mask, on one thread, and return what took how long.

    The longest comes first. A node's time is the median of ``repeats`` runs, after one that warms up, in a session of
    its own: others do not pay for the profile. ArtifactError for a graph that cannot be loaded or run.
    """
    with TemporaryDirectory() as aside:
        events = _recorded(folder, ids, mask, repeats, Path(aside))
    runs: dict[tuple[str, str], list[float]] = defaultdict(list)
    operations: dict[tuple[str, str], int] = {}
    for event in events:
        about = event.get("args") or {}
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        node = about["op_name"], about["node_index"]
        runs[node].append(event["dur"] / 1e6)
        operations[node] = operations_of(node[0], _shapes(about, "input"), _shapes(about, "output"))
    return _by_operator(runs, operations)


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
    made = outputs[0]
    return 2 * prod(inputs[0]) * (made[-1] if made else 1)


def _attention(operator: str, inputs: Sequence[Shape], made: Shape) -> int:
    batch, length, width = made[0], made[-2], made[-1]
    queried_alone = operator == "QAttention" or (operator == "Attention" and len(inputs[1]) < 3)
    keys = length if queried_alone or len(inputs) < 2 else inputs[1][-2]
    inner = 2 * 2 * batch * length * keys * width  # queries by keys, and what comes of it by values
    projections = 2 * batch * length * inputs[0][-1] * 3 * width if queried_alone else 0
    return inner + projections


def _recorded(folder: Path, ids: Any, mask: Any, repeats: int, aside: Path) -> list[dict[str, Any]]:
    session = open_session(folder, [CPU], 1, profile=aside / "profile")
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    inputs = {value.name: given[value.name] for value in session.get_inputs()}
    try:
        for _ in range(1 + repeats):
            session.run(["sentence_embedding"], inputs)
    except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
        raise ArtifactError(f"{folder / GRAPH}: cannot be run: {first_line(error)}") from error
    finally:
        written = Path(session.end_profiling())
    return json.loads(written.read_text("utf-8"))


def _shapes(about: dict[str, Any], end: str) -> list[Shape]:
    """Read shapes as the profile has them: a list of {type: shape}."""
    return [shape for one in about.get(f"{end}_type_shape") or [] for shape in one.values()]


def _by_operator(runs: dict[tuple[str, str], list[float]], operations: dict[tuple[str, str], int]) -> list[Operator]:
    names = dict.fromkeys(name for name, _ in runs)
    found = []
    for name in names:
        own = [node for node in runs if node[0] == name]
        seconds = sum(float(np.median(runs[node][1:])) for node in own)
        found.append(Operator(name, len(own), seconds, sum(operations[node] for node in own)))
    return sorted(found, key=lambda one: -one.seconds)
