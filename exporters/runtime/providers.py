"""Where ONNX Runtime computes: sessions on a provider that is there, or one line that says why not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compressor.artifact.layout import GRAPH, INTEGER_PRODUCTS
from compressor.core.errors import ArtifactError, CompressorError, ProviderError, first_line
from exporters.runtime.forking import watched
from exporters.runtime.names import CPU, CUDA, TENSORRT
from exporters.runtime.running import Running

__all__ = ["CPU", "CUDA", "DEVICES", "TENSORRT", "check_active", "computing", "on_device", "open_session",
           "require_providers", "run_bound", "with_options"]  # fmt: skip

DEVICES = (CUDA, TENSORRT)
"""Providers that compute on an NVIDIA card."""
# fp32 is fp32, as in PyTorch: unless told otherwise, ONNX Runtime multiplies it with ten bits of each number (TF32).
_OPTIONS = {CUDA: {"use_tf32": "0"}}
_INT8 = {*INTEGER_PRODUCTS, "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"}
_BEHIND = {TENSORRT: (CUDA,)}
_HOW = {
    CUDA: "pip uninstall onnxruntime && pip install onnxruntime-gpu, with an NVIDIA driver",
    TENSORRT: "pip uninstall onnxruntime && pip install onnxruntime-gpu tensorrt, with an NVIDIA driver",
}


def on_device(providers: Sequence[str]) -> bool:
    """Whether any of ``providers`` computes on a card: inputs are then put there once."""
    return any(provider in DEVICES for provider in providers)


def run_bound(session: Any, inputs: Mapping[str, NDArray[np.int64]], output: str, device: str) -> NDArray[np.float32]:
    """Run with inputs put on ``device`` once, and one output, which stays there until it is asked for.

    Nothing else of what the graph gives is copied: ``last_hidden_state`` is hundreds of times as large.
    """
    binding = session.io_binding()
    for name, values in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values, device, 0))
    binding.bind_output(output, device)
    session.run_with_iobinding(binding)
    return np.asarray(binding.copy_outputs_to_cpu()[0], np.float32)


class computing:  # noqa: N801 - a statement's word
    """Turn what ONNX Runtime raises of int64 ``ids`` [rows, tokens] into one ArtifactError: its kinds are its own."""

    def __init__(self, folder: Path, ids: NDArray[np.int64]) -> None:
        self._folder, self._ids = folder, ids

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, at: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, CompressorError):
            rows, length = self._ids.shape
            read = f"{rows} x {length} tokens with ids up to {self._ids.max(initial=0)}"
            raise ArtifactError(f"{self._folder / GRAPH}: cannot compute {read}: {first_line(error)}") from error


def open_session(
    folder: Path, providers: Sequence[str], threads: int, running: Running | None = None, profile: Path | None = None
) -> Any:
    """Open the graph of an artifact; ArtifactError if it cannot be, ProviderError where another would run it.

    ``profile``: where ONNX Runtime writes what every node takes; a session with it is slower.
    """
    if device := next((provider for provider in providers if provider in DEVICES), None):
        _refuse_int8(folder / GRAPH, device)
    options = onnxruntime.SessionOptions()
    if running:
        options.enable_cpu_mem_arena = running.arena
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(running.spinning)))
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = watched(onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=with_options(providers)))
    except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
        raise ArtifactError(f"{folder / GRAPH}: cannot be loaded: {first_line(error)}") from error
    check_active(providers, session.get_providers())
    session.disable_fallback()  # else a run that fails on the card is run again on the CPU
    return session


def with_options(providers: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Return what a session is opened with: each provider, those behind it, and their options.

    What TensorRT has no kernel for runs on CUDA: without it, ONNX Runtime would take the CPU and say nothing.
    """
    names = [name for provider in providers for name in (provider, *_BEHIND.get(provider, ()))]
    return [(name, dict(_OPTIONS.get(name, {}))) for name in dict.fromkeys(names)]


def check_active(asked: Sequence[str], active: Sequence[str]) -> None:
    """Raise ProviderError where a session does not have every provider that was asked for, in that order."""
    for provider in asked:
        if provider not in active or (provider == asked[0] and active[0] != provider):
            how = f"; {_HOW[TENSORRT]}" if provider == TENSORRT else ""
            raise ProviderError(f"{provider}: asked for, and ONNX Runtime fell back to {active[0]}{how}")


def _refuse_int8(graph: Path, device: str) -> None:
    from exporters.graph.files import load, multiplies_int8, operators  # here: who encodes on a CPU loads no onnx

    # Looked at first: to see a graph as it is run takes as long as to open it.
    if not operators(load(graph)).keys().isdisjoint(_INT8) and multiplies_int8(graph):
        raise ProviderError(
            f"{device}: {graph} multiplies int8, for which ONNX Runtime has no CUDA kernels: each product would go "
            "to the CPU and back; give the fp32 artifact, or fp16 of it (compressor fp16)"
        )


def require_providers(providers: Sequence[str]) -> None:
    """Raise ProviderError, saying how to get it, for a provider that this ONNX Runtime does not have."""
    if not providers:
        raise ProviderError("no execution provider given; CPUExecutionProvider is always there")
    available = onnxruntime.get_available_providers()
    for provider in providers:
        if provider not in available:
            how = _HOW.get(provider, "install the build of ONNX Runtime that has it")
            raise ProviderError(f"{provider}: not in this ONNX Runtime (has {', '.join(available)}); {how}")
