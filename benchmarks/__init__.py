"""Speed, quality and size, measured."""

import compressor  # noqa: F401 - before onnxruntime: what it would report is off
