"""The vocabulary's table in 8 or 4 bits: a row becomes floats where it is looked up."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from compressor.artifact.layout import INPUTS
from exporters.graph.files import PACKED, constants, makers, reads
from exporters.graph.rewrite import replace

Bits = Literal[8, 4, 32]
"""Of a number in a vocabulary's table; 32: float, as it is trained."""
BLOCK = 32
"""Columns of a row that share a scale in 4 bits."""
_TABLE_ROWS = 1000  # a Gather of a float table with at least so many rows is a vocabulary
_POSITIONS = 256  # rows of a table that is worth 8 bits beside a vocabulary of 4
_CLIPPING = np.linspace(0.55, 1.1, 12, dtype=np.float32)  # shares of a block's largest number that may be the range
_ZERO = 8  # the code of zero
_ROWS = 4096  # quantized at a time
_HALF = (2.0**-14, 2.0**15)  # a row's largest scale, which float16 holds in full

Floats = NDArray[np.float32]


def quantize_tables(model: onnx.ModelProto, bits: Literal[8, 4] = 8) -> None:
    """Store every vocabulary's table in ``bits``, in place; one that anything but look-ups reads stays as it is.

    In 8 bits a row has a float scale. In 4 bits, what the token ids look up has a scale every BLOCK columns; the
    positions' table, which otherwise stays in float, then has 8.
    """
    counts, least = reads(model), _TABLE_ROWS if bits == 8 else _POSITIONS
    for name, table in constants(model).items():
        lookups = [node for node in model.graph.node if node.op_type == "Gather" and node.input[0] == name]
        if table.data_type != TensorProto.FLOAT or len(table.dims) != 2 or table.dims[0] < least:
            continue
        if lookups and counts[name] == len(lookups) and not any(_axis(node) for node in lookups):
            if bits == 4 and table.dims[0] >= _TABLE_ROWS and any(_reads_tokens(model, node) for node in lookups):
                _by_block(model, lookups, table)
            else:
                _by_row(model, lookups, table)


def _axis(node: NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "axis"), 0)


def _reads_tokens(model: onnx.ModelProto, lookup: NodeProto) -> bool:
    """Whether the rows that are looked up are the graph's token ids, as they are or cast."""
    made_by, name = makers(model), lookup.input[1]
    while name in made_by and made_by[name].op_type in ("Cast", "Identity"):
        name = made_by[name].input[0]
    return name == INPUTS[0]


def _by_row(model: onnx.ModelProto, lookups: Sequence[NodeProto], table: TensorProto) -> None:
    """Look up int8 rows and their scales: Gather, Cast, Mul.

    One scale for the whole table, as other quantizers have it, loses most of the small rows.
    """
    rows, name = numpy_helper.to_array(table), table.name
    scales = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12).astype(np.float32) / 127
    values = np.rint(rows / scales).astype(np.int8)
    for node in lookups:
        ids, output = node.input[1], node.output[0]
        replace(
            model,
            node,
            [
                helper.make_node("Gather", [f"{name}.int8", ids], [f"{output}.int8"], name=f"{node.name}.int8"),
                helper.make_node("Cast", [f"{output}.int8"], [f"{output}.float"], to=TensorProto.FLOAT),
                helper.make_node("Gather", [f"{name}.scale", ids], [f"{output}.scale"], name=f"{node.name}.scale"),
                helper.make_node("Mul", [f"{output}.float", f"{output}.scale"], [output]),
            ],
        )
    _store(model, table, {"int8": values, "scale": scales})


def _by_block(model: onnx.ModelProto, lookups: Sequence[NodeProto], table: TensorProto) -> None:
    """Look up rows of two codes a byte, and take them apart in plain operators, which every engine has.

    The low halves of the bytes are the first half of a row, the high ones the second. ONNX Runtime's own operator for
    such rows, GatherBlockQuantized, is no faster, gives zeros for ids that have no row, and is missing from the
    WebAssembly that transformers.js takes in browsers.
    """
    rows, name = numpy_helper.to_array(table), table.name
    codes, scales = quantize_blocks(rows)
    width, blocks = rows.shape[1], scales.shape[1]
    low, high = np.split(np.pad(codes, [(0, 0), (0, blocks * BLOCK - width)]), 2, axis=1)
    parts: dict[str, NDArray[Any]] = {
        PACKED: low | (high << 4),
        "scale": scales,
        "sixteen": np.array(16, np.float32),
        "zero": np.array(_ZERO, np.float32),
        "blocks": np.array([0, 0, blocks, BLOCK], np.int64),
        "row": np.array([0, 0, blocks * BLOCK], np.int64),
        "first": np.array([0], np.int64),
        "last": np.array([-1], np.int64),
        "width": np.array([width], np.int64),
    }
    for node in lookups:
        replace(model, node, _unpacked(node, name, padded=width % BLOCK > 0))
    _store(model, table, parts)


def _unpacked(lookup: NodeProto, name: str, padded: bool) -> list[NodeProto]:
    """Return what stands where a float table was looked up; ``padded``: its rows end in codes that are no columns."""
    ids, to = lookup.input[1], lookup.output[0]
    made: list[NodeProto] = []

    def step(kind: str, *inputs: str, **settings: Any) -> str:
        output = f"{to}.{len(made)}"
        made.append(helper.make_node(kind, inputs, [output], name=f"{lookup.name}.{len(made)}", **settings))
        return output

    pairs = step("Cast", step("Gather", f"{name}.{PACKED}", ids), to=TensorProto.FLOAT)
    high = step("Floor", step("Div", pairs, f"{name}.sixteen"))
    low = step("Sub", pairs, step("Mul", high, f"{name}.sixteen"))
    codes = step("Sub", step("Concat", low, high, axis=-1), f"{name}.zero")
    scales = step("Cast", step("Gather", f"{name}.scale", ids), to=TensorProto.FLOAT)
    steps = step("Unsqueeze", scales, f"{name}.last")
    row = step("Reshape", step("Mul", step("Reshape", codes, f"{name}.blocks"), steps), f"{name}.row")
    if padded:
        step("Slice", row, f"{name}.first", f"{name}.width", f"{name}.last")
    made[-1].output[0] = to
    return made


def _store(model: onnx.ModelProto, table: TensorProto, parts: dict[str, NDArray[Any]]) -> None:
    model.graph.initializer.remove(table)
    for part, values in parts.items():
        model.graph.initializer.append(numpy_helper.from_array(values, f"{table.name}.{part}"))


def quantize_blocks(rows: Floats) -> tuple[NDArray[np.uint8], NDArray[np.float16] | Floats]:
    """Return codes 0 to 15, uint8 [rows, width], and scales [rows, blocks]: a number is (code - 8) times its scale.

    A block's scale is the one of least squared error of some, each a share of the block's largest number that the range
    ends at (OMSE: Choukroun et al., arXiv 1902.06822). That number's side gets the longer half of the codes, 8 of them
    (BOF4-S: Blumenberg et al., arXiv 2505.06653), so a scale may be negative. Scales are float16 where that holds them.
    """
    count, width = rows.shape
    blocks = -(-width // BLOCK)
    scales = np.concatenate([_scales(_in_blocks(rows[i : i + _ROWS], blocks)) for i in range(0, count, _ROWS)])
    largest = np.abs(scales).max(axis=1)
    if ((largest == 0) | ((_HALF[0] <= largest) & (largest <= _HALF[1]))).all():
        scales = scales.astype(np.float16)
    codes = np.empty((count, width), np.uint8)
    for i in range(0, count, _ROWS):
        part = _in_blocks(rows[i : i + _ROWS], blocks)
        steps = scales[i : i + _ROWS, :, None].astype(np.float32)
        codes[i : i + _ROWS] = (_rounded(part, steps) + _ZERO).reshape(len(part), -1)[:, :width].astype(np.uint8)
    return codes, scales


def _in_blocks(rows: Floats, blocks: int) -> Floats:
    """Return rows cut into blocks, float32 [rows, blocks, BLOCK], the last one filled with zeros."""
    filled = np.pad(rows, [(0, 0), (0, blocks * BLOCK - rows.shape[1])])
    return filled.reshape(len(rows), blocks, BLOCK)


def _scales(parts: Floats) -> Floats:
    """Return the scale of least squared error of each block, float32 [rows, blocks].

    Of given codes q, the best scale of x is xq / qq, and what it explains of the square of x is xq^2 / qq.
    """
    places = np.abs(parts).argmax(axis=-1)[..., None]
    ends = np.take_along_axis(parts, places, axis=-1) / -_ZERO
    best, scales = np.zeros(parts.shape[:2], np.float32), np.zeros(parts.shape[:2], np.float32)
    for share in _CLIPPING:
        codes = _rounded(parts, ends * share)
        shared, squares = (parts * codes).sum(axis=-1), np.maximum(np.square(codes).sum(axis=-1), 1)
        explained = np.square(shared) / squares
        better = explained > best
        best, scales = np.where(better, explained, best), np.where(better, shared / squares, scales)
    return scales


def _rounded(parts: Floats, steps: Floats) -> Floats:
    """Return the nearest codes less the zero, -8 to 7, of blocks whose scales are ``steps`` [rows, blocks, 1]."""
    ratios = np.divide(parts, steps, out=np.zeros_like(parts), where=steps != 0)
    return np.clip(np.rint(ratios), -_ZERO, _ZERO - 1)
