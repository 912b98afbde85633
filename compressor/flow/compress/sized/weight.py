"""How many bytes an artifact takes as a whole folder, from what it is made of."""

from math import ceil
from typing import TYPE_CHECKING, Literal

from compressor.flow.compress.sized.shape import Shape
from exporters.precision.tables import BLOCK

if TYPE_CHECKING:
    from compressor.flow.compress.outlook import Outlook

_SCALE = 5  # bytes of a column of int8 weights: its scale and its zero point
_FLOAT = 4
_GRAPH, _GRAPH_LAYER = 20_000, 11_000  # names and settings of a graph's nodes, of all and of a layer
_PAGES = 42_000  # card, manifest, settings, the conformance set's runners and texts
_CASES, _NUMBER = 18, 12  # texts of the conformance set, and characters of a number in it
_OUTPUT_RANGES = 8  # bytes a number of a vector


def folder_bytes(outlook: "Outlook", shape: Shape, precision: Literal["fp32", "int8"] = "int8") -> int:
    """Return about how many bytes the whole folder of an artifact takes."""
    int8 = precision == "int8"
    layers = outlook.depth if shape.layers is None else shape.layers
    tokens, pages = shape.vocabulary or outlook.vocabulary, _PAGES
    if layers == 0 and outlook.depth:  # a static student: one vector a token, and the map to shorter ones
        mapped = _FLOAT * shape.dim * outlook.dim if shape.dim else 0
        graph: float = _table(tokens, shape.dim or outlook.dim, shape.bits, int8) + mapped
    else:
        graph = _tables(outlook, shape, int8) + layers * layer_bytes(outlook, shape, int8) + dense_bytes(outlook, shape)
    tokenizer = outlook.tokenizer_bytes * tokens // max(outlook.vocabulary, 1)
    pages += (shape.dim or outlook.dim) * (_CASES * _NUMBER + _OUTPUT_RANGES)
    return round(graph + _GRAPH + tokenizer + pages)


def layer_bytes(outlook: "Outlook", shape: Shape, int8: bool) -> float:
    """Return the bytes of one layer: products in int8 with a scale a column, biases and normalizations in float."""
    hidden, most = outlook.hidden, outlook.feed_forward
    neurons, rows = shape.feed_forward or most, 2 if outlook.gated else 1  # rows that make a neuron
    vectors, columns = 9 * hidden + rows * neurons, 5 * hidden + rows * neurons
    whole = outlook.parameters.layer - ((rows + 1) * hidden + rows) * (most - neurons)
    if not int8:
        return _FLOAT * whole + _GRAPH_LAYER
    return max(whole - vectors, 0) + _FLOAT * vectors + _SCALE * columns + _GRAPH_LAYER


def dense_bytes(outlook: "Outlook", shape: Shape) -> int:
    """Return the bytes of linear layers behind the pooling, in float: in the graph, and again beside it.

    The map from the teacher's vectors to shorter ones lies there, too.
    """
    fitted = shape.layers is not None and shape.dense and not outlook.possible.unfitted
    lifted = 2 * _FLOAT * outlook.dim * (outlook.hidden + 1) if fitted else 0
    return lifted + (3 * _FLOAT * shape.dim * outlook.dim if shape.dim else 0)


def _tables(outlook: "Outlook", shape: Shape, int8: bool) -> float:
    """Return the bytes of the words' table, of positions, and of what widens both."""
    hidden, columns = outlook.hidden, shape.embedding_size or outlook.hidden
    rows = outlook.parameters.table // max(hidden, 1)  # of all tables that hold words
    tokens = rows if shape.vocabulary is None else shape.vocabulary
    positions, small = outlook.positions, int8 and shape.bits == 4
    rest = _FLOAT * (outlook.parameters.rest - positions * hidden)
    placed = positions * (columns + _FLOAT if small else _FLOAT * columns)
    product = 0
    if shape.embedding_size:
        product = columns * hidden * (1 if int8 else _FLOAT) + (_FLOAT + _SCALE) * hidden
    return _table(tokens, columns, shape.bits, int8) + placed + rest + product


def _table(rows: int, columns: int, bits: int, int8: bool) -> int:
    if not int8:
        return _FLOAT * rows * columns
    if bits == 4:
        return rows * ceil(columns / BLOCK) * (BLOCK // 2 + 2)
    return rows * (columns + _FLOAT)
