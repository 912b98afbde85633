"""Which provider each node of a graph was given to, as ONNX Runtime states it of an open session."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from exporters.runtime.names import CPU, PARTIAL, Given, named

RECORDED = "session.record_ep_graph_assignment_info"
"""The setting of a session without which it states nothing."""

Placed = Mapping[str, Mapping[str, int]]
"""How many nodes of each operator, by provider: as the graph has them when it is taken apart."""


def placed(session: Any) -> Placed:
    """Count the nodes of a session that was opened with ``RECORDED``."""
    counts: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        counts.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return {provider: dict(operators.most_common()) for provider, operators in counts.items()}


def placed_of(session: Any, providers: Sequence[Given]) -> Placed | None:
    """Count the nodes of a session on ``providers``; None where none of them takes a part of a graph alone."""
    return None if PARTIAL.keys().isdisjoint(named(providers)) else placed(session)


def nodes(placed: Placed, provider: str | None = None) -> int:
    """Count the nodes that a provider was given, or all."""
    return sum(sum(own.values()) for name, own in placed.items() if provider in (None, name))


def fallen(placed: Placed) -> str:
    """Say how many nodes run on the CPU provider, and which: "3 of 9 nodes on CPUExecutionProvider (Cast 3)"."""
    operators = placed.get(CPU, {})
    named = f" ({', '.join(f'{name} {count}' for name, count in operators.items())})" if operators else ""
    return f"{nodes(placed, CPU)} of {nodes(placed)} nodes on {CPU}{named}"
