"""Graphs for ONNX Runtime: made, checked, run and handed out.

What programs use of it stands in ``__all__``, and is imported when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import compressor  # noqa: F401 - before onnxruntime: what it would report is off

if TYPE_CHECKING:
    from exporters.reader import OnnxReader
    from exporters.serving import Batcher
    from exporters.session import OnnxEncoder

__all__ = ["Batcher", "OnnxEncoder", "OnnxReader"]
_MODULES = {"Batcher": "serving", "OnnxEncoder": "session", "OnnxReader": "reader"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
