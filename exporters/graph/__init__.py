"""ONNX graphs: traced, read, rewritten and fused."""
