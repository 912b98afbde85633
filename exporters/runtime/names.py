"""What ONNX Runtime's execution providers are called; to name one loads nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
DNNL = "DnnlExecutionProvider"
XNNPACK = "XnnpackExecutionProvider"
ACL = "ACLExecutionProvider"
COREML = "CoreMLExecutionProvider"
QNN = "QNNExecutionProvider"

DEVICES = (CUDA, TENSORRT)
"""Providers that compute on an NVIDIA card."""
PARTIAL = {OPENVINO: "OpenVINO", DNNL: "oneDNN", XNNPACK: "XNNPACK", ACL: "ACL", COREML: "Core ML", QNN: "QNN"}
"""Providers that take the part of a graph that they have kernels for, and what they are called in a label."""

Given = str | tuple[str, Mapping[str, Any]]
"""A provider as it is asked for: its name, with options behind it or beside it; see ``asked.Asked``."""


def name_of(given: Given) -> str:
    """Return the name of a provider that is asked for."""
    return (given if isinstance(given, str) else given[0]).partition(":")[0]


def with_cpu(provider: str) -> list[str]:
    """Return a provider with, where it takes a part of a graph alone, the CPU provider behind it for the rest."""
    return [provider, CPU] if name_of(provider) in PARTIAL else [provider]


def named(given: Sequence[Given]) -> list[str]:
    """Return the names of providers that are asked for."""
    return [name_of(provider) for provider in given]
