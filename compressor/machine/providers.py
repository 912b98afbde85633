"""How ONNX Runtime's execution providers are had, by name, and which of its packages stand in each other's way."""

from collections.abc import Mapping

_BUILD = "no wheel of ONNX Runtime has it; build one with"
HOW: Mapping[str, str] = {
    "CPUExecutionProvider": "it is always there",
    "CUDAExecutionProvider": "pip uninstall onnxruntime && pip install onnxruntime-gpu, with an NVIDIA driver",
    "TensorrtExecutionProvider": "pip uninstall onnxruntime && pip install onnxruntime-gpu tensorrt, with an NVIDIA "
    "driver",
    "OpenVINOExecutionProvider": "pip uninstall onnxruntime && pip install onnxruntime-openvino, on x86",
    "DnnlExecutionProvider": f"{_BUILD} --use_dnnl",
    "XnnpackExecutionProvider": f"{_BUILD} --use_xnnpack",
    "ACLExecutionProvider": f"{_BUILD} --use_acl, on ARM",
    "CoreMLExecutionProvider": "pip install onnxruntime, on macOS",
    "QNNExecutionProvider": "pip uninstall onnxruntime && pip install onnxruntime-qnn, with a Qualcomm processor",
}
"""The providers that are run here, and how each is had."""
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn")
"""Packages that unpack into one folder: one of them may be installed."""
FITTING = {"x86": ("OpenVINOExecutionProvider",), "arm": (), "apple": ("CoreMLExecutionProvider",)}
"""Those beside CPU and cards that a wheel brings, by processor."""


def runtime_of(versions: Mapping[str, str | None]) -> str | None:
    """Return the version of whichever package brings ONNX Runtime; None without one."""
    return next((version for name in RUNTIMES if (version := versions.get(name))), None)
