"""How many tokens a graph has positions for, whoever wrote it: told by the rows of its tables that it looks up."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compressor.artifact.layout import INPUTS
from compressor.untrusted.graph import Refusal, first_line

MOST_RUN = 1024
"""Tokens of a text that is computed where no table tells, at most: attention takes their square."""
_SHORT, _LONG = 8, 12  # tokens of the two texts that tell how rows grow
BLOCK_LOOKUP = "GatherBlockQuantized"  # in graphs of others: it looks rows of few bits up
_AXES = {"Gather": "axis", BLOCK_LOOKUP: "gather_axis"}


@dataclass(frozen=True)
class Lookups:
    """What a graph works out to look rows up, as a graph of its own: what it computes of the rows is left out."""

    graph: bytes
    rows: Mapping[str, int]
    """How many rows a table has, by the name of the output that says which are read."""


def lookups_of(model: Any, onnx: Any) -> Lookups | None:
    """Return the look-ups of a graph in its stored tables, but for those of the inputs as they are; None without."""
    graph = model.graph
    tables = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) > 1}
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    rows: dict[str, int] = {}
    for node in graph.node:
        if _looks_rows_up(node):
            table, read = node.input[:2]
            if table in tables and read in makers:
                rows[read] = min(tables[table], rows.get(read, tables[table]))
    if not rows:
        return None
    nodes = [graph.node[number] for number in _before(graph, rows, makers)]
    used = {name for node in nodes for name in _reads(node)}
    alone = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    alone.graph.name = "lookups"
    alone.graph.input.extend(graph.input)
    alone.graph.node.extend(nodes)
    alone.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in used)
    alone.graph.output.extend(onnx.ValueInfoProto(name=name) for name in rows)
    return Lookups(alone.SerializeToString(), rows)


def words_of(model: Any) -> int | None:
    """Return how many rows the token ids are looked up in, where ids past them give zeros and no error."""
    tables = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) > 1}
    lookups = [node for node in model.graph.node if node.op_type == BLOCK_LOOKUP]
    read = [node.input[0] for node in lookups if list(node.input[1:2]) == [INPUTS[0]]]
    return min((tables[name] for name in read if name in tables), default=None)


def check_words(tokenizer: Any, rows: int) -> None:
    """Refuse a tokenizer with a token that no row is for."""
    highest = max(tokenizer.get_vocab().values(), default=-1)
    if highest >= rows:
        raise Refusal(f"tokenizer.json: a token has id {highest}; the graph has rows for {rows}, and zeros past them")


def check_length(
    stated: str, length: int, session: Any, lookups: Lookups | None, open_graph: Callable[[bytes], Any], token: int
) -> None:
    """Refuse a ``length`` of texts, stated as ``stated``, that the graph has no positions for, or cannot compute.

    Where no table tells, a text of so many times ``token`` is computed, up to MOST_RUN.
    """
    most = _positions(lookups, open_graph, token) if lookups else None
    if most is not None and length > most:
        raise Refusal(f"{stated} = {length}: the graph has positions for {most} tokens")
    if most is None and length <= MOST_RUN:
        try:
            session.run(None, _text(session, token, length))
        except Exception as error:  # ONNX Runtime raises its own kinds
            raise Refusal(f"{stated} = {length}: so many tokens cannot be computed: {first_line(error)}") from error


def _looks_rows_up(node: Any) -> bool:
    axis = _AXES.get(node.op_type)
    return axis is not None and len(node.input) > 1 and not any(a.i for a in node.attribute if a.name == axis)


def _positions(lookups: Lookups, open_graph: Callable[[bytes], Any], token: int) -> int | None:
    """Return for how many tokens the tables suffice; None where no row that is read grows as the text does.

    An absolute position does, from wherever the family starts to count; relative ones are read for pairs of tokens.
    """
    try:
        session = open_graph(lookups.graph)
        short, long = (_highest(session, token, length) for length in (_SHORT, _LONG))
    except Exception:  # then nothing tells, and the graph itself is run
        return None
    grown = [name for name in short.keys() & long.keys() if long[name] - short[name] == _LONG - _SHORT]
    return min((lookups.rows[name] - (long[name] - _LONG + 1) for name in grown), default=None)


def _highest(session: Any, token: int, length: int) -> dict[str, int]:
    """Return the highest row that is read for a text of ``length`` equal tokens, of each look-up of a row a token."""
    names = [value.name for value in session.get_outputs()]
    made = zip(names, session.run(names, _text(session, token, length)), strict=True)
    return {name: int(read.max()) for name, read in made if read.size == length}


def _text(session: Any, token: int, length: int) -> dict[str, Any]:
    import numpy as np

    rows = {"input_ids": token, "attention_mask": 1, "token_type_ids": 0}
    return {value.name: np.full((1, length), rows[value.name], np.int64) for value in session.get_inputs()}


def _before(graph: Any, names: Mapping[str, int], makers: Mapping[str, int]) -> list[int]:
    """Return the numbers of the operators that ``names`` are made by and of, in their order."""
    found, left = set[int](), list(names)
    while left:
        number = makers.get(left.pop())
        if number is not None and number not in found:
            found.add(number)
            left += _reads(graph.node[number])
    return sorted(found)


def _reads(node: Any) -> Iterator[str]:
    """Yield the tensors that an operator reads, those of its branches included."""
    yield from node.input
    for attribute in node.attribute:
        for branch in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            yield from (output.name for output in branch.output)
            for inner in branch.node:
                yield from _reads(inner)
