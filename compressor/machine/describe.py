"""What this machine is: processor, memory, limits of its container, packages. Recorded with every figure."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import psutil

from compressor.core.cores import control_groups, cpu_quota, read_control
from compressor.machine.providers import RUNTIMES

_X86_FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
)
_ARM_FEATURES = ("asimddp", "i8mm", "bf16", "sve", "sme", "sme2")
FEATURES = _X86_FEATURES + _ARM_FEATURES
INT8_FEATURES = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Any of them makes int8 fast; x86 without one also clips sums of products, but for weights of 7 bits."""
BF16_FEATURES = ("avx512_bf16", "amx_bf16", "bf16")
_MODELS = ("torch", "transformers", "sentence-transformers", "tokenizers", "numpy")
_GRAPHS = ("onnx", "onnxruntime", "optimum")
PACKAGES = (*_MODELS, *_GRAPHS, "compressor")
EXTRA_PACKAGES = (*RUNTIMES[1:], "optimum-onnx")
"""Recorded only where they are installed: they change what the others do."""

# macOS names of the features, as sysctl gives them: flags of 0 or 1, and lists on Intel.
_SYSCTL_FLAGS = {
    "asimddp": "FEAT_DotProd",
    "i8mm": "FEAT_I8MM",
    "bf16": "FEAT_BF16",
    "sme": "FEAT_SME",
    "sme2": "FEAT_SME2",
}
_SYSCTL_NAMES = {"AVX2": "avx2", "AVX512F": "avx512f", "AVX512VNNI": "avx512_vnni"}


def describe() -> dict[str, Any]:
    """Return the ``environment`` of a results file: JSON values only."""
    return {
        "cpu": _cpu_name(),
        "architecture": platform.machine(),
        "features": features(),
        "cores": cores(),
        "cpu_quota": cpu_quota(),
        "threads": _torch_threads(),
        "memory_bytes": min(filter(None, (psutil.virtual_memory().total, _memory_limit()))),
        "os": platform.platform(),
        "python": platform.python_version(),
        "versions": _versions(),
        "providers": _providers(),
        "cuda": _cuda_name(),
    }


def cores() -> int:
    """Count the cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def features() -> list[str]:
    """List those of FEATURES that the processor has; none where the system does not tell."""
    if platform.system() == "Linux":
        found: Collection[str] = _field(read_control(Path("/proc/cpuinfo")), "flags", "Features").split()
    elif platform.system() == "Darwin":
        found = _darwin_features()
    else:
        found = ()
    return [name for name in FEATURES if name in found]


def saturates(architecture: str, int8_is_fast: bool) -> bool:
    """Tell whether ONNX Runtime's fast sums of int8 overflow on a processor, but for weights of 7 bits (``exact``)."""
    return architecture.lower() in ("x86_64", "amd64") and not int8_is_fast


def saturates_here() -> bool:
    """Tell whether they overflow on this processor."""
    return saturates(platform.machine(), not set(INT8_FEATURES).isdisjoint(features()))


HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
"""PyTorch reads this variable when it first asks for memory: 1 for huge pages, where Linux has them on request."""


def in_bf16(precision: str) -> bool:
    """Tell whether training in ``precision`` multiplies in bf16; auto: where that is fast."""
    return precision == "bf16" or (precision == "auto" and bf16_is_fast())


def bf16_is_fast() -> bool:
    """Tell whether the processor multiplies bfloat16 itself; elsewhere bf16 is slower than fp32."""
    return any(name in BF16_FEATURES for name in features())


def bf16_on_arm() -> bool:
    """Tell whether ONNX Runtime can multiply fp32 in bf16 here: on ARM under Linux, with instructions for it."""
    return platform.system() == "Linux" and platform.machine() == "aarch64" and "bf16" in features()


def _cpu_name() -> str:
    if platform.system() == "Darwin":
        return _sysctl("machdep.cpu.brand_string")
    # ARM's cpuinfo has numbers only; lscpu knows their names
    name = _field(read_control(Path("/proc/cpuinfo")), "model name") or _field(_output("lscpu"), "Model name")
    return name or platform.processor() or platform.machine()


def _field(text: str, *keys: str) -> str:
    """Return the first value that stands under one of ``keys`` in lines of ``key: value``."""
    pairs = [line.partition(":") for line in text.splitlines()]
    return next((value.strip() for name, _, value in pairs if name.strip() in keys), "")


def _darwin_features() -> list[str]:
    arm = [name for name, flag in _SYSCTL_FLAGS.items() if _sysctl(f"hw.optional.arm.{flag}") == "1"]
    intel = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}".split()
    return arm + [_SYSCTL_NAMES[name] for name in intel if name in _SYSCTL_NAMES]


def _sysctl(name: str) -> str:
    return _output("sysctl", "-n", name)


def _output(*command: str) -> str:
    """Return what a command prints; nothing where it is missing, slow or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _memory_limit(root: Path = Path("/")) -> int | None:
    names = ("memory.max", "memory.limit_in_bytes")
    values = [read_control(folder / name) for folder in control_groups("memory", root) for name in names]
    return min((int(value) for value in values if value.isdecimal()), default=None)


def _versions() -> dict[str, str | None]:
    found = {name: _version(name) for name in PACKAGES + EXTRA_PACKAGES}
    return {name: version for name, version in found.items() if version or name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _providers() -> list[str]:
    if importlib.util.find_spec("onnxruntime") is None:
        return []
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def _torch_threads() -> int:
    import torch

    return torch.get_num_threads()


def _cuda_name() -> str | None:
    """Name the first NVIDIA card, also where this torch is built without CUDA."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    names = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return names[0] if names else None
