"""Where ONNX Runtime computes: sessions on a provider that is there, or one line that says why not."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from compressor.artifact.layout import GRAPH, INTEGER_PRODUCTS, REDUCED
from compressor.artifact.manifest import MANIFEST, own_manifest, recipe_of
from compressor.core.errors import ArtifactError, CompressorError, ProviderError, first_line
from compressor.machine.describe import saturates_here
from compressor.machine.exact import open_exact
from compressor.machine.providers import HOW
from exporters.runtime.asked import CONFIG, PROPERTIES, SAME, Asked
from exporters.runtime.forking import watched
from exporters.runtime.names import CPU, CUDA, DEVICES, DNNL, OPENVINO, PARTIAL, TENSORRT, XNNPACK, Given, named
from exporters.runtime.placed import RECORDED, fallen, nodes, placed
from exporters.runtime.running import BF16_PRODUCTS, Running

__all__ = ["CPU", "CUDA", "DEVICES", "TENSORRT", "check_active", "computing", "on_device", "open_session",
           "require_providers", "run_bound", "side_by_side", "stated_streams", "with_options"]  # fmt: skip

# fp32 is fp32, as in PyTorch: unless told otherwise, ONNX Runtime multiplies it with ten bits of each number (TF32).
_OPTIONS = {CUDA: {"use_tf32": "0"}}
_INT8 = {*INTEGER_PRODUCTS, "DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"}
_BEHIND = {TENSORRT: (CUDA,)}
_THREADS = {DNNL: "threads", XNNPACK: "intra_op_num_threads"}


def on_device(providers: Sequence[Given]) -> bool:
    """Whether any of ``providers`` computes on a card: inputs are then put there once."""
    return any(provider in DEVICES for provider in named(providers))


def side_by_side(providers: Sequence[Given]) -> bool:
    """Whether batches run side by side on the cores of this machine: on the CPU provider, and on OpenVINO's there."""
    first = Asked.of(providers[0])
    if first.name == OPENVINO:
        return first.options.get("device_type", "CPU") == "CPU"
    return named(providers) == [CPU]


def stated_streams(providers: Sequence[Given]) -> int | None:
    """Return how many batches OpenVINO is told to run side by side; None where it is not told."""
    options = Asked.of(providers[0]).options
    stated = options.get("NUM_STREAMS", options.get("num_streams"))
    return None if stated is None else int(stated)


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
    folder: Path,
    providers: Sequence[Given],
    threads: int,
    running: Running | None = None,
    profile: Path | None = None,
    streams: int = 1,
) -> Any:
    """Open the graph of an artifact; ArtifactError if it cannot be, ProviderError where another would run it.

    Nodes that a provider has no kernels for run on the CPU provider where that is asked for behind it.
    ``profile``: where ONNX Runtime writes what every node takes; a session with it is slower. ``streams``: batches that
    OpenVINO runs side by side, on ``threads`` each.
    """
    names = named(providers)
    if device := next((provider for provider in names if provider in DEVICES), None):
        _refuse_int8(folder / GRAPH, device)
    options = onnxruntime.SessionOptions()
    if running:
        options.enable_cpu_mem_arena = running.arena
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(running.spinning)))
        if running.bf16_products:
            options.add_session_config_entry(BF16_PRODUCTS, "1")
    if partial := not PARTIAL.keys().isdisjoint(names):
        options.add_session_config_entry(RECORDED, "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    given = with_options(providers, threads, streams)
    try:  # enable_fallback: else it prints what a provider says of its options, and opens the graph on the CPU
        opened = open_exact if saturates_here() and not _seven_bits(folder) else onnxruntime.InferenceSession
        session = opened(str(folder / GRAPH), options, providers=given, enable_fallback=False)
    except Exception as error:  # ONNX Runtime raises its own kinds, one a status code
        on = f" on {', '.join(names)}" if names != [CPU] else ""
        raise ArtifactError(f"{folder / GRAPH}: cannot be loaded{on}: {first_line(error)}") from error
    check_active(providers, session.get_providers())
    if partial and CPU not in names:
        _check_placed(session, providers)
    session.disable_fallback()  # else a run that fails on the card is run again on the CPU
    return watched(session)


def _seven_bits(folder: Path) -> bool:
    """Whether the manifest says that weights have 7 bits, whose products fit where those of 8 overflow."""
    if not (folder / MANIFEST).is_file():
        return False
    manifest = own_manifest(folder)
    stated = (manifest["figures"], recipe_of(manifest).get("int8"), manifest.get("config"))
    return any(isinstance(part, dict) and part.get(REDUCED) is True for part in stated)


def with_options(providers: Sequence[Given], threads: int = 1, streams: int = 1) -> list[tuple[str, dict[str, str]]]:
    """Return what a session is opened with: each provider, those behind it, and their options.

    What TensorRT has no kernel for runs on CUDA: without it, ONNX Runtime would take the CPU and say nothing.
    Providers with threads of their own have ``threads``, for each of ``streams``, where they are not told how many.
    """
    opened: dict[str, dict[str, str]] = {}
    for asked in map(Asked.of, providers):
        opened.setdefault(asked.name, _opened_with(asked, threads, streams))
        for name in _BEHIND.get(asked.name, ()):
            opened.setdefault(name, dict(_OPTIONS.get(name, {})))
    return list(opened.items())


def _opened_with(asked: Asked, threads: int, streams: int) -> dict[str, str]:
    if asked.name == OPENVINO:
        return _of_openvino(asked.options, threads, streams)
    own = {_THREADS[asked.name]: str(threads)} if asked.name in _THREADS else {}
    return _OPTIONS.get(asked.name, {}) | own | dict(asked.options)


def _of_openvino(options: Mapping[str, str], threads: int, streams: int) -> dict[str, str]:
    """Return the options of OpenVINO's provider, its properties as JSON.

    On the CPU fp32 is fp32, too: unless told otherwise, OpenVINO multiplies it in bf16 where the processor can.
    """
    device = options.get("device_type", "CPU")
    properties = {name: value for name, value in options.items() if name in PROPERTIES}
    if device == "CPU":
        usual = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": str(threads * streams),
            "NUM_STREAMS": str(streams),
        }
        properties = {name: value for name, value in usual.items() if SAME[name] not in options} | properties
    own = {name: value for name, value in options.items() if name not in PROPERTIES}
    return own | ({CONFIG: json.dumps({device: properties})} if properties else {})


def check_active(asked: Sequence[Given], active: Sequence[str]) -> None:
    """Raise ProviderError where a session does not have every provider that was asked for, in that order."""
    for given in asked:
        provider = Asked.of(given)
        if provider.name not in active or (given == asked[0] and active[0] != provider.name):
            how = f"; {HOW[TENSORRT]}" if provider.name == TENSORRT else ""
            options = f" with {str(provider).partition(':')[2]}" if provider.options else ""
            raise ProviderError(f"{provider.name}: asked for{options}, and ONNX Runtime fell back to {active[0]}{how}")


def _check_placed(session: Any, asked: Sequence[Given]) -> None:
    """Raise ProviderError where nodes would run on the CPU provider, which was not asked for."""
    found = placed(session)
    if nodes(found, CPU):
        raise ProviderError(
            f"{', '.join(named(asked))}: {fallen(found)}, which was not asked for; give it behind the other to allow "
            "that, or a graph of other operators"
        )


def _refuse_int8(graph: Path, device: str) -> None:
    from exporters.graph.files import load, multiplies_int8, operators  # here: who encodes on a CPU loads no onnx

    # Looked at first: to see a graph as it is run takes as long as to open it.
    if not operators(load(graph)).keys().isdisjoint(_INT8) and multiplies_int8(graph):
        raise ProviderError(
            f"{device}: {graph} multiplies int8, for which ONNX Runtime has no CUDA kernels: each product would go "
            "to the CPU and back; give the fp32 artifact, or fp16 of it (compressor fp16)"
        )


def require_providers(providers: Sequence[Given]) -> None:
    """Raise ProviderError for a provider that is not known, its options, or one that this ONNX Runtime does not have.

    And say how to get it.
    """
    if isinstance(providers, str):
        raise ProviderError(f"providers = {providers!a:.80}: must be a list of providers, as [{providers!a:.80}]")
    if not providers:
        raise ProviderError("no execution provider given; CPUExecutionProvider is always there")
    available = onnxruntime.get_available_providers()
    for name in [Asked.of(provider).name for provider in providers]:
        if name not in available:
            raise ProviderError(f"{name}: not in this ONNX Runtime (has {', '.join(available)}); {HOW[name]}")
