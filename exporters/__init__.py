"""Graphs for ONNX Runtime: made, checked, run and handed out."""

import compressor  # noqa: F401 - before onnxruntime: what it would report is off
