"""int8 products in the QDQ form: what other tools and accelerators read, and ONNX Runtime fuses again at load."""

from typing import Any

import onnx
from onnx import NodeProto, helper

from exporters.graph.files import constants


def as_qdq(model: onnx.ModelProto) -> int:
    """Write each int8 product of fixed ranges as a float one of two DequantizeLinear, in place; return how many were.

    Scales and zero points are those of the product; a scale a column becomes DequantizeLinear's axis 1. The fused
    attention has no such form.
    """
    stored = constants(model)
    rewritten: list[NodeProto] = []
    changed = 0
    for node in model.graph.node:
        if node.op_type != "MatMulIntegerToFloat" or not stored.keys() >= set(node.input[1:]):
            rewritten.append(node)
            continue
        values, weight, scale, weight_scale, zero, weight_zero = node.input[:6]
        bias, to = node.input[6:], node.output[0]
        axis: dict[str, Any] = {"axis": 1} if stored[weight_scale].dims else {}
        rewritten.append(
            helper.make_node(
                "DequantizeLinear", [values, scale, zero], [f"{to}.values_dequantized"], f"{to}.values_dequantized"
            )
        )
        inputs = [weight, weight_scale, weight_zero]
        rewritten.append(
            helper.make_node(
                "DequantizeLinear", inputs, [f"{to}.weight_dequantized"], f"{to}.weight_dequantized", **axis
            )
        )
        product = f"{to}.product" if bias else to
        rewritten.append(
            helper.make_node("MatMul", [f"{to}.values_dequantized", f"{to}.weight_dequantized"], [product], node.name)
        )
        if bias:
            rewritten.append(helper.make_node("Add", [product, bias[0]], [to], f"{to}.sum"))
        changed += 1
    del model.graph.node[:]
    model.graph.node.extend(rewritten)
    return changed
