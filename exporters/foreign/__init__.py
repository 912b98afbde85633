"""ONNX folders that others made: found, checked, described, and taken over in this project's form."""
