"""What ONNX Runtime's execution providers are called; to name one loads nothing."""

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
