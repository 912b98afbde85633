"""Sums of int8 products that are exact on every processor.

On x86 without VNNI, ONNX Runtime's fast kernels add two products of u8 and s8 in int16, which saturates: vectors are
others there than elsewhere. ``session.x64quantprecision`` (onnxruntime_session_options_config_keys.h) has it add them
exactly. Where sums are exact anyway it changes no number, and may cost speed.
"""

from typing import Any

_EXACT = "session.x64quantprecision"


def open_exact(graph: str | bytes, options: Any, **more: Any) -> Any:
    """Return a session of a graph that adds exactly; ``options`` and ``more`` are those of InferenceSession.

    ONNX Runtime 1.31 leaves products in the branches of an ``If`` as they are, and cannot open some such graphs: these
    are opened without.
    """
    import onnxruntime

    options.add_session_config_entry(_EXACT, "1")
    try:
        return onnxruntime.InferenceSession(graph, options, **more)
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
        options.add_session_config_entry(_EXACT, "0")
        return onnxruntime.InferenceSession(graph, options, **more)
