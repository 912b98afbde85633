"""Where ONNX Runtime computes: sessions on a provider that is there, or one line that says why not."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compressor.artifact.layout import GRAPH
from compressor.core.errors import ArtifactError, CompressorError, ProviderError, first_line
from exporters.runtime.forking import watched
from exporters.runtime.running import Running

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"


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
    if CUDA in providers:
        _refuse_int8(folder / GRAPH)
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
        session = watched(onnxruntime.InferenceSession(str(folder / GRAPH), options, providers=list(providers)))
    except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
        raise ArtifactError(f"{folder / GRAPH}: cannot be loaded: {first_line(error)}") from error
    if session.get_providers()[0] != providers[0]:
        active = session.get_providers()[0]
        raise ProviderError(f"{providers[0]}: asked for, and ONNX Runtime fell back to {active}")
    return session


def _refuse_int8(graph: Path) -> None:
    from exporters.graph.files import multiplies_int8  # here: who encodes on a CPU loads no onnx

    if multiplies_int8(graph):
        raise ProviderError(
            f"{CUDA}: {graph} multiplies int8, for which ONNX Runtime has no CUDA kernels: each product would go "
            "to the CPU and back; give the fp32 artifact, or fp16 of it (compressor fp16)"
        )


def require_providers(providers: Sequence[str]) -> None:
    """Raise ProviderError, saying how to get it, for a provider that this ONNX Runtime does not have."""
    if not providers:
        raise ProviderError("no execution provider given; CPUExecutionProvider is always there")
    available = onnxruntime.get_available_providers()
    for provider in providers:
        if provider not in available:
            how = (
                "pip uninstall onnxruntime && pip install onnxruntime-gpu, with an NVIDIA driver"
                if provider == CUDA
                else "install the build of ONNX Runtime that has it"
            )
            raise ProviderError(f"{provider}: not in this ONNX Runtime (has {', '.join(available)}); {how}")
