"""Sessions as other people's programs open them."""

from pathlib import Path
from typing import Any

import onnxruntime

from compressor.machine.describe import saturates_here
from compressor.machine.exact import open_exact


def plain_session(graph: Path | bytes) -> Any:
    """Open a graph on the CPU with no setting but that which its card names for x86 processors without VNNI."""
    opened = open_exact if saturates_here() else onnxruntime.InferenceSession
    given = graph if isinstance(graph, bytes) else str(graph)
    return opened(given, onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"])
