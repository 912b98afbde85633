"""Graphs for ONNX Runtime: made, checked, run and handed out.

What programs use of it stands in ``__all__``, and is imported when it is asked for.
"""

from typing import TYPE_CHECKING

import compressor  # noqa: F401 - before onnxruntime: what it would report is off
from compressor.core.public import lazily

if TYPE_CHECKING:
    from exporters.embedding.run import embed
    from exporters.reader import OnnxReader
    from exporters.serving import Batcher
    from exporters.session import OnnxEncoder

__all__ = ["Batcher", "OnnxEncoder", "OnnxReader", "embed"]


__getattr__, __dir__ = lazily(
    __name__, {"Batcher": "serving", "OnnxEncoder": "session", "OnnxReader": "reader", "embed": "embedding.run"}
)
